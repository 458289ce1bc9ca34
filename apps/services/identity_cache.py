"""Users and sessions in the cache: the identity of a token costs one round trip.

An entry holds the id of its row and is used only for that row (K1), so even a cache that mixes up its answers cannot
show one user's data to another. The mobile number stays encrypted. `@transactional` publishes changes after the commit.
See docs/cache.md.
"""

import functools
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from sqlalchemy import select

from apps.cache.redis import Lease, Stored
from apps.cache.store import TOMBSTONE_VERSION
from apps.config import settings
from apps.database.transaction import Marks, Publish, publish_with, reading
from apps.extensions import cache, db
from apps.models import Session, User
from apps.models.user import mobile_context
from apps.security import field_encryption
from apps.services.cache_epoch import bump_epoch, check_epoch
from apps.services.cache_mark import require_marks

_SCHEMA = "2"  # part of every key; raise it when a cached struct changes its shape


class CachedUser(msgspec.Struct, frozen=True):
    """The columns of `users` that requests need."""

    id: int
    version: int
    username: str
    age: int
    role: str
    is_blocked: bool
    mobile_ciphertext: bytes

    def is_of(self, user_id: int, _session_id: str) -> bool:
        """Return True if this is the row that was asked for."""
        return self.id == user_id

    @property
    def mobile(self) -> str:
        """The mobile number, decrypted."""
        return field_encryption.decrypt(self.mobile_ciphertext, mobile_context(self.id))


class CachedSession(msgspec.Struct, frozen=True):
    """The columns of `sessions` that requests need."""

    id: str
    user_id: int
    version: int
    refresh_generation: int
    last_used_time: datetime
    expire_time: datetime
    end_time: datetime
    revoke_time: datetime | None

    def is_of(self, user_id: int, session_id: str) -> bool:
        """Return True if this is the row that was asked for."""
        return self.user_id == user_id and self.id == session_id


class Identity(msgspec.Struct, frozen=True):
    """The user and the session of a verified token."""

    user: CachedUser
    session: CachedSession
    is_fresh: bool
    generation: int  # of a refresh token; 0 for an access token
    from_cache: bool


S = TypeVar("S", CachedUser, CachedSession)

_Change = tuple[Stored, bool]  # an entry to write, and whether no process can have an older one

_users = msgspec.json.Decoder(CachedUser)
_sessions = msgspec.json.Decoder(CachedSession)


def user_key(user_id: int) -> str:
    """Return the cache key of a user. The braces keep all keys of one user on one node of a cluster."""
    return f"{settings().CACHE_PREFIX}:{_SCHEMA}:{{u:{user_id}}}:user"


def session_key(user_id: int, session_id: str) -> str:
    """Return the cache key of a session."""
    return f"{settings().CACHE_PREFIX}:{_SCHEMA}:{{u:{user_id}}}:session:{session_id}"


def find_identity(claims: Mapping[str, Any]) -> Identity | None:
    """Return the user and the session of verified claims, or None if one of them does not exist.

    Costs one round trip to the cache and, on a miss, one query. The caller checks whether the user is blocked and the
    session has ended.
    """
    user_id, session_id = int(claims["sub"]), claims["sid"]
    found = _look_up(user_id, session_id)
    if found.is_deleted:
        return None
    if found.user and found.session:
        return _identity(found.user, found.session, claims, from_cache=True)
    with cache.filling(user_key(user_id)) as lease:
        found = _look_up(user_id, session_id, lease)  # another thread may have filled it meanwhile
        if found.user and found.session:
            return _identity(found.user, found.session, claims, from_cache=True)
        rows = _read(user_id, session_id)
        if rows is None:
            return None
        cache_read(lease, *rows)
    return _identity(_cached_user(rows[0]), _cached_session(rows[1]), claims, from_cache=False)


def cache_read(lease: Lease, *rows: User | Session) -> None:
    """Write rows of one user, just read from the database, to the cache at once. `lease` is that of the miss."""
    cache.fill([_entry(row) for row in rows], lease)


@publish_with
def _prepare(marked: Marks) -> Publish:
    """Return a function that publishes the marked rows as they are now. Raises what `require_marks` raises."""
    require_marks()
    if marked:
        cache.store.require_writable()
    by_user: dict[int, list[_Change]] = {}
    for row, change in marked.items():
        entry = _tombstone(row) if change == "deleted" else _entry(row)
        by_user.setdefault(row.id if isinstance(row, User) else row.user_id, []).append((entry, change == "new"))
    return functools.partial(_publish, list(by_user.values()))


def _publish(changes: list[list[_Change]], is_committed: bool) -> None:
    """Write the entries to the cache, one call per user. Bump the epoch if a change did not reach Redis.

    If the result of the commit is unknown, the old or the new rows may be valid, so the entries are invalidated.
    """
    is_missed = False
    for of_user in changes:
        outdated = [(key, version, "") for (key, version, _), is_new in of_user if not is_new]
        entries = [entry for entry, _ in of_user] if is_committed else outdated
        if entries and not cache.put(entries) and outdated:
            is_missed = True
    if is_missed:
        bump_epoch()


class _Found(msgspec.Struct, frozen=True):
    """The cache entries of a user and one of their sessions. None is a miss."""

    user: CachedUser | None
    session: CachedSession | None
    is_deleted: bool = False


def _look_up(user_id: int, session_id: str, lease: Lease | None = None) -> _Found:
    """Read both entries in one round trip. With a lease, `cache_read` may fill the missing ones."""
    check_epoch()
    keys = of_user, of_session = user_key(user_id), session_key(user_id, session_id)
    user_entry, session_entry = cache.get_many(keys, lease)
    if user_entry == (TOMBSTONE_VERSION, of_user) or session_entry == (TOMBSTONE_VERSION, of_session):
        return _Found(None, None, is_deleted=True)
    return _Found(
        _decode(_users, of_user, user_entry, user_id, session_id),
        _decode(_sessions, of_session, session_entry, user_id, session_id),
    )


def _decode(
    decoder: msgspec.json.Decoder[S], key: str, entry: tuple[int, str] | None, user_id: int, session_id: str
) -> S | None:
    """Return the struct of an entry. An entry that is corrupt or of another row is dropped and counts as a miss."""
    if entry is None:
        return None
    version, value = entry
    try:
        cached = decoder.decode(value)
    except msgspec.DecodeError:
        cached = None
    if cached and cached.version == version and cached.is_of(user_id, session_id):
        return cached
    cache.forget(key)
    return None


def _entry(row: User | Session) -> tuple[str, int, str]:
    if isinstance(row, User):
        return user_key(row.id), row.version, _encode(_cached_user(row))
    return session_key(row.user_id, row.id), row.version, _encode(_cached_session(row))


def _tombstone(row: User | Session) -> tuple[str, int, str]:
    key = user_key(row.id) if isinstance(row, User) else session_key(row.user_id, row.id)
    return key, TOMBSTONE_VERSION, key


def _encode(cached: CachedUser | CachedSession) -> str:
    return msgspec.json.encode(cached).decode()


def _cached_user(user: User) -> CachedUser:
    return CachedUser(
        id=user.id,
        version=user.version,
        username=user.username,
        age=user.age,
        role=user.role,
        is_blocked=user.block_time is not None,
        mobile_ciphertext=bytes(user.mobile_ciphertext),
    )


def _cached_session(session: Session) -> CachedSession:
    return msgspec.convert(session, CachedSession, from_attributes=True)


def _identity(user: CachedUser, session: CachedSession, claims: Mapping[str, Any], *, from_cache: bool) -> Identity:
    return Identity(user, session, claims["fresh"], claims.get("gen", 0), from_cache)


@reading
def _read(user_id: int, session_id: str) -> tuple[User, Session] | None:
    query = select(User, Session).join(Session, Session.user_id == User.id)
    row = db.session.execute(query.where(User.id == user_id, Session.id == session_id)).one_or_none()
    return row and (row[0], row[1])
