"""A cache of verified tokens: clients send the same token many times, and verifying its signature is expensive.

It stores only what the signature proves: the claims, which passed the checks of decision 0003. Whether the session is
live and the key is still accepted is checked on every request.
"""

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cachetools import LRUCache

from apps.utils import clock

_MAX_TOKENS = 5_000  # about 6 MB; then the least recently used token is dropped


@dataclass(frozen=True, slots=True)
class Verified:
    """The claims of a token whose signature was verified, and the `kid` of its key (None for HS256)."""

    claims: Mapping[str, Any]
    kid: str | None


class TokenCache:
    """Verified tokens by their digest, so that a memory dump of the process contains no token."""

    def __init__(self, leeway: timedelta) -> None:
        """Use the same `leeway` as the verification, before `nbf` and after `exp`."""
        self._leeway = leeway.total_seconds()
        self._tokens: LRUCache[bytes, Verified] = LRUCache(_MAX_TOKENS)
        self._lock = threading.Lock()

    def get(self, token: str) -> Verified | None:
        """Return what was stored for `token`, or None if the token is unknown, expired or not valid yet (V7)."""
        digest = _digest(token)
        try:
            with self._lock:
                verified = self._tokens[digest]
        except KeyError:
            return None
        now, claims = clock.now().timestamp(), verified.claims
        return verified if claims["nbf"] - self._leeway <= now < claims["exp"] + self._leeway else None

    def put(self, token: str, verified: Verified) -> None:
        """Store a verified token. Its claims include `nbf` and `exp`, in seconds (RFC 7519, 4.1)."""
        with self._lock:
            self._tokens[_digest(token)] = verified


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
