"""Signing keys: published, then signing, then only verifying, then retired.

A key is published `JWT_KEYS_PUBLISH_AHEAD` before it signs. Every process, and every service that verifies tokens by
the JWKS, loads it in between, so none receives a token of a key that it does not know (RFC 7517, 4.5). A process
reloads the keys every `JWT_KEYS_RELOAD` seconds. While the database is unavailable, it keeps the last good ones.
"""

import logging
import threading
import time
from collections.abc import Collection, Sequence
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
from apps.services.audit import lock_head, record
from apps.services.unreadable_field import audit_unreadable, log_unreadable
from apps.utils import clock

logger = logging.getLogger(__name__)

_UNKNOWN_KID_INTERVAL = 1.0  # seconds between reloads that unknown key ids can cause

Schedule = Sequence[tuple[datetime, str]]  # (beginning, kid) of the keys that sign, the preferred one first


@dataclass(frozen=True, slots=True)
class Key:
    """A decrypted key, as a process uses it."""

    kid: str
    algorithm: str
    private_key: jwk.PrivateKey
    public_jwk: dict[str, Any]


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys as last read: when each begins to sign, and all that verify."""

    schedule: Schedule
    verifying: dict[str, Key]
    read_at: float  # by the monotonic clock
    unreadable: frozenset[str] = frozenset()  # ids of keys that cannot be decrypted

    @property
    def signing(self) -> Key | None:
        """The key that signs now, or None if there is none or it cannot be decrypted."""
        return self.verifying.get(_signing_kid(self.schedule, clock.now()) or "")


class SigningKeyError(Exception):
    """An operator asked for a change that is not possible or would break tokens; the message says why."""


def init_app(app: Flask) -> None:
    """Give `app` an empty key ring; its first use fills it."""
    app.extensions["key_ring"] = KeyRing((), {}, float("-inf"))
    app.extensions["key_ring_lock"] = threading.Lock()


def signing_key() -> Key:
    """Return the key that signs. Raises `NoSigningKey`."""
    key = _ring().signing or _ring(max_age=0).signing  # reload, so that the very first key is used at once
    if key is None:
        logger.warning("no signing key: run `manage.py keys rotate`", extra={"event": "keys.missing"})
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


def is_unreadable(kid: str) -> bool:
    """Return True if the key with this id exists but cannot be decrypted, so its tokens cannot be verified."""
    return kid in _ring().unreadable


def public_jwks() -> list[dict[str, Any]]:
    """Return the JWKs of all keys that are not retired, also of those that do not sign yet (RFC 7517)."""
    return [key.public_jwk for key in _ring().verifying.values()]


@transactional
def publish_key(algorithm: str) -> SigningKey:
    """Make and publish a key. It verifies, and does not sign yet."""
    return _insert(algorithm)


@transactional
def rotate_key(algorithm: str, *, at_once: bool) -> SigningKey:
    """Schedule the next signing key and return it. The previous key keeps verifying.

    It is the key of a pending rotation, else the newest one that is only published, else a new one. It begins to sign
    `JWT_KEYS_PUBLISH_AHEAD` after its publication. It signs now if `at_once`, or if no key signs yet. A waiting key
    that cannot be decrypted is retired.
    """
    lock_head()  # one rotation at a time; `record` takes this lock anyway
    now = clock.now()
    keys = _retire_unreadable(_select_keys(), now)
    row = _waiting_key(keys, algorithm, now) or _insert(algorithm)
    begin = max(now, row.create_time + settings().JWT_KEYS_PUBLISH_AHEAD)
    if at_once or not any(_has_signed(key, now) for key in keys):
        begin = now
    if row.activate_time is None or begin < row.activate_time:
        row.activate_time = begin
        record("key.activate", None, kid=row.kid, activate_time=begin.isoformat(timespec="seconds"))
    return row


@transactional
def retire_key(kid: str, *, even_if_tokens_live: bool) -> SigningKey:
    """Stop verifying with a key.

    Raises `SigningKeyError` if there is no such key, if it signs, or if its tokens may be valid and not
    `even_if_tokens_live`.
    """
    row = _lock(kid)
    keys, now = _select_keys(), clock.now()
    if kid in {_signing_kid(_schedule(keys), moment) for moment in (now, now + _propagation())}:
        raise SigningKeyError("this is the signing key; rotate first")
    if _has_signed(row, now) and not even_if_tokens_live:
        _refuse_live_tokens(row, keys, now)
    row.retire_time = now
    record("key.retire", None, kid=kid)
    return row


@reading
def list_keys() -> Sequence[SigningKey]:
    """Return all keys that are not retired, newest first."""
    return _select_keys()


def state_of(key: SigningKey, keys: Sequence[SigningKey]) -> str:
    """Return "published", "pending" (signs from its `activate_time` on), "signing" or "verifying" (has signed)."""
    if key.activate_time is None:
        return "published"
    if key.activate_time > clock.now():
        return "pending"
    return "signing" if key.kid == signing_kid(keys) else "verifying"


def signing_kid(keys: Sequence[SigningKey]) -> str | None:
    """Return the id of the key that signs now, among the keys that are not retired; None without one."""
    return _signing_kid(_schedule(keys), clock.now())


def _select_keys() -> Sequence[SigningKey]:
    return db.session.scalars(
        select(SigningKey).where(SigningKey.retire_time.is_(None)).order_by(SigningKey.create_time.desc())
    ).all()


def _schedule(keys: Sequence[SigningKey]) -> Schedule:
    """Return when each key begins to sign, newest first.

    Keys of another algorithm than JWT_ALGORITHM come last. They sign only until the first key of JWT_ALGORITHM begins,
    and only if there is such a key.
    """
    algorithm = settings().JWT_ALGORITHM
    order = sorted(
        ((key.algorithm == algorithm, key.activate_time, key.kid) for key in keys if key.activate_time), reverse=True
    )
    return tuple((begin, kid) for _, begin, kid in order) if order and order[0][0] else ()


def _signing_kid(schedule: Schedule, moment: datetime) -> str | None:
    """Return the id of the key that signs at this moment; None without a key.

    The very first key signs even before its `activate_time`: the clock of this process may be behind.
    """
    first = schedule[-1][1] if schedule else None
    return next((kid for begin, kid in schedule if begin <= moment), first)


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
        return KeyRing(last_good.schedule, last_good.verifying, time.monotonic(), last_good.unreadable)
    keys = {
        row.kid: key for row in rows if (key := last_good.verifying.get(row.kid) or _decrypt(row, last_good.unreadable))
    }
    return KeyRing(_schedule(rows), keys, time.monotonic(), frozenset(row.kid for row in rows) - keys.keys())


def _decrypt(row: SigningKey, reported: Collection[str]) -> Key | None:
    """Return the key, or None if it cannot be decrypted or parsed, so that the other keys stay usable.

    That is logged and audited unless the id of the key is in `reported`.
    """
    try:
        private_key = jwk.from_text(field_encryption.decrypt(row.private_key_ciphertext, private_key_context(row.kid)))
        return Key(row.kid, row.algorithm, private_key, jwk.to_public_jwk(private_key, row.algorithm))
    except (field_encryption.Undecryptable, ValueError, TypeError) as error:
        if row.kid not in reported:  # once, not at every reload
            log_unreadable("signing key", row.kid, error)
            audit_unreadable("key.unreadable", row.kid, kid=row.kid)
        return None


def _retire_unreadable(keys: Sequence[SigningKey], now: datetime) -> list[SigningKey]:
    """Retire the waiting keys that cannot be decrypted, because a new process could not sign. Return the others."""
    for row in keys:
        if not _has_signed(row, now) and _decrypt(row, {row.kid}) is None:
            row.retire_time = now
            record("key.retire", None, kid=row.kid)
    return [row for row in keys if not row.retire_time]


def _waiting_key(keys: Sequence[SigningKey], algorithm: str, now: datetime) -> SigningKey | None:
    """Return the key of a pending rotation, else the newest key that is only published, else None."""
    waiting = [key for key in keys if key.algorithm == algorithm and (not key.activate_time or key.activate_time > now)]
    return next((key for key in waiting if key.activate_time), waiting[0] if waiting else None)


def _insert(algorithm: str) -> SigningKey:
    """Add a new key, in the caller's transaction."""
    key = jwk.make_private_key(algorithm)
    kid: str = jwk.to_public_jwk(key, algorithm)["kid"]
    ciphertext = field_encryption.encrypt(jwk.to_text(key), private_key_context(kid))
    row = SigningKey(kid=kid, algorithm=algorithm, private_key_ciphertext=ciphertext, create_time=clock.now())
    db.session.add(row)
    record("key.publish", None, kid=kid, algorithm=algorithm)
    return row


def _propagation() -> timedelta:
    """Return the time after which every process, also one with another clock, acts on a change of the keys."""
    return timedelta(seconds=settings().JWT_KEYS_RELOAD) + settings().JWT_LEEWAY


def _has_signed(key: SigningKey, now: datetime) -> bool:
    return key.activate_time is not None and key.activate_time <= now


def _refuse_live_tokens(row: SigningKey, keys: Sequence[SigningKey], now: datetime) -> None:
    """Raise `SigningKeyError` while tokens of this key may be accepted. The key signs until another one replaces it."""
    begin = row.activate_time or now
    later = [key.activate_time for key in keys if key.activate_time and key.activate_time > begin]
    if not later:
        raise SigningKeyError("no other key has replaced it; rotate first")
    longest = max(settings().JWT_ACCESS_TOKEN_EXPIRES, settings().JWT_REFRESH_TOKEN_EXPIRES)
    expiry = min(later) + _propagation() + longest + settings().JWT_LEEWAY
    if now < expiry:
        raise SigningKeyError(f"tokens signed with it may be valid until {expiry:%Y-%m-%d %H:%M:%S} UTC")


def _lock(kid: str) -> SigningKey:
    row = db.session.get(SigningKey, kid, with_for_update=True)
    if row is None or row.retire_time:
        raise SigningKeyError("no such key")
    return row
