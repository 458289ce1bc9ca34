"""Tokens that were found good a moment ago: a client sends the same one many times, and the signature is what costs.

Only what a signature proves is remembered. Whether the session goes on, and whether the key is still one of ours, is
asked again on every request.
"""

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cachetools import LRUCache

from apps.utils import clock

_MAX_TOKENS = 5_000  # about 6 MB; the one that was not used for longest goes first


@dataclass(frozen=True, slots=True)
class Verified:
    """The claims of a good token, and the id of the key that signed it; HS256 has one key, and no id."""

    claims: Mapping[str, Any]
    kid: str | None


class TokenCache:
    """Remembers tokens by their digest, so that a look into the memory of the process finds none."""

    def __init__(self, leeway: timedelta) -> None:
        """Let a token be good for `leeway` before its `nbf` and after its `exp`, as whoever verifies it does."""
        self._leeway = leeway.total_seconds()
        self._tokens: LRUCache[bytes, Verified] = LRUCache(_MAX_TOKENS)
        self._lock = threading.Lock()

    def get(self, token: str) -> Verified | None:
        """Return what was found of `token`, if this is its time: the clock may have been set back as well."""
        digest = _digest(token)
        try:
            with self._lock:
                known = self._tokens[digest]
        except KeyError:
            return None
        is_time = known.claims["nbf"] - self._leeway <= clock.now().timestamp() < known.claims["exp"] + self._leeway
        return known if is_time else None

    def put(self, token: str, verified: Verified) -> None:
        """Remember a token that was just found good. `claims` hold `nbf` and `exp`, in seconds (RFC 7519, 4.1)."""
        with self._lock:
            self._tokens[_digest(token)] = verified


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
