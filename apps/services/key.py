"""Signing keys: published, then signing, then only verifying, then retired.

A key is published before it signs. Every process loads it in between, so no process receives a token of a key that it
does not know (RFC 7517, 4.5). A process reloads the keys every `JWT_KEYS_RELOAD` seconds. While the database is
unavailable, it keeps the last good ones.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask import Flask, current_app
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from apps.config import settings
from apps.database.transaction import reading, transactional
from apps.errors import DatabaseUnavailable, NoSigningKey
from apps.extensions import db
from apps.models import SigningKey
from apps.models.key import private_key_context
from apps.security import field_encryption, jwk
from apps.services.audit import record
from apps.utils import clock

logger = logging.getLogger(__name__)

_UNKNOWN_KID_INTERVAL = 1.0  # seconds between reloads that unknown key ids can cause


@dataclass(frozen=True, slots=True)
class Key:
    """A decrypted key, as a process uses it."""

    kid: str
    algorithm: str
    private_key: jwk.PrivateKey
    public_jwk: dict[str, Any]


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys as last read: the one that signs, and all that verify."""

    signing: Key | None
    verifying: dict[str, Key]
    read_at: float  # by the monotonic clock


class SigningKeyError(Exception):
    """An operator asked for a change that is not possible or would break tokens; the message says why."""


def init_app(app: Flask) -> None:
    """Give `app` an empty key ring; its first use fills it."""
    app.extensions["key_ring"] = KeyRing(None, {}, float("-inf"))
    app.extensions["key_ring_lock"] = threading.Lock()


def signing_key() -> Key:
    """Return the key that signs. Raises `NoSigningKey`."""
    key = _ring().signing or _ring(max_age=0).signing  # reload, so that the very first key is used at once
    if key is None:
        raise NoSigningKey
    return key


def require_signing_key() -> None:
    """Raise `NoSigningKey` if no token could be signed. Call it before anything is written for a token."""
    if settings().JWT_ALGORITHM != "HS256":
        signing_key()


def verification_key(kid: str) -> Key | None:
    """Return the key with this id if it verifies tokens, else None."""
    ring = _ring()
    if kid not in ring.verifying:
        ring = _ring(max_age=_UNKNOWN_KID_INTERVAL)
    return ring.verifying.get(kid)


def public_jwks() -> list[dict[str, Any]]:
    """Return the public keys, as JWKs, of all keys that are not retired, those that do not sign yet included."""
    return [key.public_jwk for key in _ring().verifying.values()]


def publish_key(algorithm: str) -> SigningKey:
    """Make and publish a key. It verifies, and does not sign yet."""
    key = jwk.make_private_key(algorithm)
    kid: str = jwk.to_public_jwk(key, algorithm)["kid"]
    return _insert(kid, algorithm, jwk.to_text(key))


def activate_key(kid: str) -> SigningKey:
    """Sign with a published key from now on. The previous key keeps verifying. Raises `SigningKeyError`."""
    return _activate(kid)


def retire_key(kid: str, *, even_if_tokens_live: bool) -> SigningKey:
    """Stop verifying with a key.

    Raises `SigningKeyError` for the key that signs and, unless `even_if_tokens_live`, while its tokens may be valid.
    """
    return _retire(kid, even_if_tokens_live)


@reading
def list_keys() -> Sequence[SigningKey]:
    """Return all keys that are not retired, newest first."""
    return db.session.scalars(
        select(SigningKey).where(SigningKey.retire_time.is_(None)).order_by(SigningKey.create_time.desc())
    ).all()


def state_of(key: SigningKey, keys: Sequence[SigningKey]) -> str:
    """Return "published" (not signing yet), "signing" or "verifying" (not signing any more)."""
    if key.activate_time is None:
        return "published"
    return "signing" if key.kid == _signing_kid(keys) else "verifying"


def waiting_key() -> SigningKey | None:
    """Return the newest key of the configured algorithm that does not sign yet, or None."""
    algorithm = settings().JWT_ALGORITHM
    return next((key for key in list_keys() if key.algorithm == algorithm and key.activate_time is None), None)


def _signing_kid(keys: Sequence[SigningKey]) -> str | None:
    algorithm = settings().JWT_ALGORITHM  # keys of another algorithm remain from before the setting changed
    active = [(key.activate_time, key.kid) for key in keys if key.algorithm == algorithm and key.activate_time]
    return max(active)[1] if active else None


def _ring(max_age: float | None = None) -> KeyRing:
    """Return the ring. Reload it if it is older than `max_age` seconds: one thread reads, the others wait."""
    limit: float = settings().JWT_KEYS_RELOAD if max_age is None else max_age
    ring: KeyRing = current_app.extensions["key_ring"]
    if time.monotonic() - ring.read_at < limit:
        return ring
    with current_app.extensions["key_ring_lock"]:
        ring = current_app.extensions["key_ring"]
        if time.monotonic() - ring.read_at >= limit:
            ring = current_app.extensions["key_ring"] = _read_ring(ring)
    return ring


def _read_ring(last_good: KeyRing) -> KeyRing:
    try:
        rows = list_keys()
    except (SQLAlchemyError, DatabaseUnavailable) as error:
        if not last_good.verifying:
            raise
        extra = {"event": "keys.unread", "cause": str(error) or repr(error)}
        logger.warning("signing keys not reloaded: this process keeps using the keys it read before", extra=extra)
        return KeyRing(last_good.signing, last_good.verifying, time.monotonic())
    keys = {row.kid: key for row in rows if (key := last_good.verifying.get(row.kid) or _decrypt(row))}
    return KeyRing(keys.get(_signing_kid(rows) or ""), keys, time.monotonic())


def _decrypt(row: SigningKey) -> Key | None:
    """Return the key, or None if it cannot be decrypted or parsed, so that the other keys stay usable."""
    try:
        private_key = jwk.from_text(field_encryption.decrypt(row.private_key_ciphertext, private_key_context(row.kid)))
        return Key(row.kid, row.algorithm, private_key, jwk.to_public_jwk(private_key, row.algorithm))
    except (field_encryption.Undecryptable, ValueError, TypeError) as error:
        extra = {"event": "keys.unread", "kid": row.kid, "cause": str(error)}
        logger.warning("signing key unreadable: this process neither signs nor verifies with it", extra=extra)
        return None


@transactional
def _insert(kid: str, algorithm: str, text: str) -> SigningKey:
    row = SigningKey(
        kid=kid, algorithm=algorithm, private_key_ciphertext=field_encryption.encrypt(text, private_key_context(kid))
    )
    db.session.add(row)
    record("key.publish", None, kid=kid, algorithm=algorithm)
    return row


@transactional
def _activate(kid: str) -> SigningKey:
    row = _lock(kid)
    row.activate_time = clock.now()
    record("key.activate", None, kid=kid)
    return row


@transactional
def _retire(kid: str, even_if_tokens_live: bool) -> SigningKey:
    row = _lock(kid)
    keys = db.session.scalars(select(SigningKey).where(SigningKey.retire_time.is_(None))).all()
    if kid == _signing_kid(keys):
        raise SigningKeyError("this is the signing key; rotate first")
    replaced = _replaced_at(row, keys)
    longest: timedelta = settings().JWT_REFRESH_TOKEN_EXPIRES
    if replaced and clock.now() - replaced < longest and not even_if_tokens_live:
        raise SigningKeyError(f"tokens signed with it may be valid until {replaced + longest:%Y-%m-%d %H:%M:%S} UTC")
    row.retire_time = clock.now()
    record("key.retire", None, kid=kid)
    return row


def _replaced_at(row: SigningKey, keys: Sequence[SigningKey]) -> datetime | None:
    """Return when another key replaced this one as the signing key. None: it never signed, or was not replaced."""
    if row.activate_time is None:
        return None
    times = [key.activate_time for key in keys if key.activate_time]
    return min((moment for moment in times if moment > row.activate_time), default=None)


def _lock(kid: str) -> SigningKey:
    row = db.session.get(SigningKey, kid, with_for_update=True)
    if row is None or row.retire_time:
        raise SigningKeyError("no such key")
    return row
