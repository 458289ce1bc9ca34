"""What other services may do with our tokens: introspect (RFC 7662) and revoke (RFC 7009) them."""

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
    """Return an access or refresh token if it is valid now, else None. A retired refresh token is not valid."""
    try:
        identity, claims = authenticate_any(token)
    except InvalidToken:
        return None
    if claims["type"] == "refresh" and claims["gen"] != identity.session.refresh_generation:
        return None
    return ActiveToken(identity, claims)


def revoke(token: str, client_id: str) -> None:
    """End the session of a valid token, for a client. An invalid token is not an error (RFC 7009, 2.2)."""
    try:
        identity, _ = authenticate_any(token)
    except InvalidToken:
        return
    end_sessions(identity.user.id, "this", "revoked_by_client", identity.session.id, client=client_id)
