"""Tokens: issued for a session, and verified more strictly than the libraries do.

PyJWT signs and Flask-JWT-Extended decodes. The key to decode with is returned only if the token's header and claims
have exactly the shape that this service issues (T5, T6). Without this check, the library accepts a token without `exp`,
or with any `type` but "refresh", as an access token.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from math import ceil
from typing import Any, Literal

import jwt as pyjwt
import msgspec
from flask import Flask, current_app
from flask_jwt_extended import decode_token
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt.algorithms import HMACAlgorithm

from apps.config import settings
from apps.errors import DataUnreadable, InvalidToken
from apps.extensions import jwt
from apps.models import Session
from apps.security.token_cache import TokenCache, Verified
from apps.services import session as session_service
from apps.services.identity_cache import CachedSession, Identity, find_identity
from apps.services.key import Key, is_unreadable, require_signing_key, signing_key, verification_key
from apps.utils import clock
from apps.utils.ids import MAX_ID

Kind = Literal["access", "refresh"]

_MAX_LENGTH = 2048  # characters; issued tokens have about 400
_ACCESS_CLAIMS = {
    "iss": str,
    "aud": str,
    "sub": str,
    "sid": str,
    "jti": str,
    "type": str,
    "exp": int,
    "nbf": int,
    "iat": int,
    "fresh": bool,
}
_CLAIM_TYPES = {"access": _ACCESS_CLAIMS, "refresh": {**_ACCESS_CLAIMS, "gen": int}}
# RFC 7515, 2 and 7.1: three parts, without padding. PyJWT also accepts a padded signature, a second spelling.
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_SUBJECT = re.compile(r"[1-9][0-9]{0,18}")
_SESSION_ID = re.compile(r"[0-9a-f]{32}")


class _Hmac(HMACAlgorithm):
    """HS256 that checks the key once. PyJWT checks at every signature that it is no PEM, certificate or JWK."""

    def prepare_key(self, key: str | bytes) -> bytes:
        """Return the bytes to sign with. Raises `InvalidKeyError` for a public key."""
        return _prepare_key(key)


@lru_cache(maxsize=8)
def _prepare_key(key: str | bytes) -> bytes:
    return HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(key)


_jws = pyjwt.PyJWS()
_jws.unregister_algorithm("HS256")
_jws.register_algorithm("HS256", _Hmac(HMACAlgorithm.SHA256))


@dataclass(frozen=True, slots=True)
class TokenPair:
    """The tokens that a login or a refresh returns, and when they expire.

    Without rotation, a refresh returns no refresh token; `refresh_end` is that of the one that the client has.
    """

    access_token: str
    access_end: datetime
    refresh_token: str | None
    refresh_end: datetime


def init_app(app: Flask) -> None:
    """Give `app` its cache of verified tokens."""
    app.extensions["token_cache"] = TokenCache(settings(app).JWT_LEEWAY)


def issue_pair(session: Session) -> TokenPair:
    """Return the tokens of a session that was just opened; the access token is fresh."""
    return _issue_pair(session, _issue_refresh_token(session), is_fresh=True)


def refresh(identity: Identity, user_agent: str) -> TokenPair:
    """Return new tokens for the session of a refresh token. The access token is not fresh.

    `user_agent` is that of the request: only the same one may repeat the refresh later (`REFRESH_REUSE`).
    Raises `InvalidToken`, `NoSigningKey`.
    """
    require_signing_key()
    if not settings().JWT_REFRESH_ROTATION:
        if identity.generation != identity.session.refresh_generation:  # retired while rotation was on
            raise InvalidToken
        session_service.touch(identity.session)
        return _issue_pair(identity.session, None, is_fresh=False)
    session = session_service.rotate(identity.session.id, identity.generation, user_agent)
    return _issue_pair(session, _issue_refresh_token(session), is_fresh=False)


def authenticate(token: str, kind: Kind) -> Identity:
    """Return the user and the session of a token.

    Costs one round trip to the cache and, on a miss, one query. Raises `InvalidToken` unless the token is intact,
    unexpired and of this `kind`, its user exists and is not blocked, and its session is live.
    """
    identity, claims = authenticate_any(token)
    if claims["type"] != kind:
        raise InvalidToken
    return identity


def authenticate_any(token: str) -> tuple[Identity, Mapping[str, Any]]:
    """Return the user and the session of a token of either kind, and its claims. Raises `InvalidToken`."""
    claims = _verify(token)
    identity = find_identity(claims)
    if identity is None or identity.user.is_blocked:
        raise InvalidToken
    if identity.session.revoke_time or identity.session.end_time <= clock.now():
        raise InvalidToken
    return identity, claims


def authenticate_for_logout(token: str) -> Identity:
    """Return the user and the session of a token of either kind, for a logout. It may be expired or retired.

    Raises `InvalidToken` for every other fault, such as an ended session.
    """
    identity = find_identity(_verify(token, may_be_expired=True))
    if identity is None or identity.user.is_blocked or identity.session.revoke_time:
        raise InvalidToken
    return identity


def _issue_pair(session: Session | CachedSession, refresh_token: str | None, *, is_fresh: bool) -> TokenPair:
    """Return a new access token of the session, with its refresh token if there is one to return."""
    now = clock.now()
    end = min(now + settings().JWT_ACCESS_TOKEN_EXPIRES, session.end_time)
    token = _issue(session, now, end, type="access", fresh=is_fresh, jti=secrets.token_hex(16))
    return TokenPair(token, end, refresh_token, session.expire_time)


def _issue_refresh_token(session: Session) -> str:
    """Return the current refresh token of a session. Repeated calls return the same token (decision 0007).

    So a retry within the grace window gets the token of the lost answer, and no token is stored, not even hashed.
    """
    begin = session.rotate_time or session.create_time
    number = session.refresh_generation
    return _issue(
        session, begin, session.expire_time, type="refresh", fresh=False, jti=f"{session.id}.{number}", gen=number
    )


def _issue(session: Session | CachedSession, begin: datetime, end: datetime, **claims: str | bool | int) -> str:
    """Return a token of the session, valid from `begin` to `end`, signed with the current key (RFC 7519, 4.1)."""
    config, issued = settings(), int(begin.timestamp())
    payload = msgspec.json.encode(
        {
            "iss": config.JWT_ISSUER,
            "aud": config.JWT_AUDIENCE,
            "sub": str(session.user_id),
            "sid": session.id,
            "iat": issued,
            "nbf": issued,
            "exp": int(end.timestamp()),
            **claims,
        }
    )
    if config.JWT_ALGORITHM != "HS256":
        key = signing_key()
        return _jws.encode(payload, key.private_key, key.algorithm, {"kid": key.kid})
    return _jws.encode(payload, config.JWT_SECRET_KEY, "HS256")


def _verify(token: str, *, may_be_expired: bool = False) -> Mapping[str, Any]:
    """Return the claims of a token that this service signed and that is valid now. Raises `InvalidToken`."""
    if len(token) > _MAX_LENGTH or not _COMPACT.fullmatch(token):
        raise InvalidToken
    token_cache: TokenCache = current_app.extensions["token_cache"]
    known = token_cache.get(token)
    if known and (known.kid is None or verification_key(known.kid)):
        return known.claims
    verified = _decode(token, may_be_expired)
    token_cache.put(token, verified)
    return verified.claims


def _decode(token: str, may_be_expired: bool) -> Verified:
    try:
        claims = decode_token(token, allow_expired=True) if may_be_expired else decode_token(token)
        kid = pyjwt.get_unverified_header(token)["kid"] if _is_asymmetric() else None  # verified by `decode_token`
    except (pyjwt.PyJWTError, JWTExtendedException, RecursionError) as error:
        raise InvalidToken from error
    names = _CLAIM_TYPES[claims["type"]]  # one set of strings for all cached tokens halves their memory
    return Verified({name: claims[name] for name in names}, kid)


def _is_asymmetric() -> bool:
    return settings().JWT_ALGORITHM != "HS256"


@jwt.decode_key_loader
def _verification_key(header: dict[str, Any], claims: dict[str, Any]) -> Any:
    """Return the key to verify a token with, if header and claims have exactly the shape that this service issues.

    The signature is not checked yet, so no claim can be trusted here.
    """
    key = _named_key(header) if _is_asymmetric() else None
    expected = {"alg": key.algorithm, "typ": "JWT", "kid": key.kid} if key else {"alg": "HS256", "typ": "JWT"}
    if header != expected:
        raise pyjwt.InvalidTokenError("not a header that this service issues")
    if not _has_our_claims(claims):
        raise pyjwt.InvalidTokenError("not claims that this service issues")
    return key.private_key.public_key() if key else settings().JWT_SECRET_KEY


def _named_key(header: dict[str, Any]) -> Key:
    """Return the key that the header names, of any algorithm: keys keep verifying after JWT_ALGORITHM changed (T12)."""
    kid = header.get("kid")
    key = verification_key(kid) if isinstance(kid, str) else None
    if key is None and isinstance(kid, str) and is_unreadable(kid):
        raise DataUnreadable  # a 401 would end a session whose token may be good
    if key is None:
        raise pyjwt.InvalidTokenError("unknown or retired key")
    return key


def _has_our_claims(claims: dict[str, Any]) -> bool:
    expected = _CLAIM_TYPES.get(str(claims.get("type")))
    if {name: type(value) for name, value in claims.items()} != expected:
        return False
    if not (_SUBJECT.fullmatch(claims["sub"]) and _SESSION_ID.fullmatch(claims["sid"])):
        return False
    if int(claims["sub"]) > MAX_ID:  # SQLite's driver cannot bind it
        return False
    lifetime: timedelta = getattr(settings(), f"JWT_{claims['type'].upper()}_TOKEN_EXPIRES")
    seconds: int = claims["exp"] - claims["iat"]
    return 0 < seconds <= ceil(lifetime.total_seconds())  # whole seconds; a lifetime of 1.5 s may span two
