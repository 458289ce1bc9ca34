"""What another service may learn of a token, and how it ends one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.errors import InvalidToken
from apps.services.identity_cache import Identity
from apps.services.session import end_sessions
from apps.services.token import authenticate_any


@dataclass(frozen=True, slots=True)
class ActiveToken:
    """A token that would be accepted now."""

    identity: Identity
    claims: Mapping[str, Any]


def introspect(token: str) -> ActiveToken | None:
    """Return what an access or refresh token says if it is good now. A retired refresh token is not."""
    try:
        identity, claims = authenticate_any(token)
    except InvalidToken:
        return None
    if claims["type"] == "refresh" and claims["gen"] != identity.session.refresh_generation:
        return None
    return ActiveToken(identity, claims)


def revoke(token: str, client_id: str) -> None:
    """End the session of a good token for a client; RFC 7009, 2.2: any other needs nothing done."""
    try:
        identity, _ = authenticate_any(token)
    except InvalidToken:
        return
    end_sessions(identity.user.id, "this", "revoked_by_client", identity.session.id, client=client_id)
