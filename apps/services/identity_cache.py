"""What the cache keeps of a user and of a session, and how it is kept true.

A snapshot holds the id of its row and is believed only for that row (K1), so even a cache that mixes up its
answers cannot show one user's data to another. The mobile number stays encrypted.
"""

from datetime import datetime
from typing import TypeVar

import msgspec

from apps.cache.redis import Lease
from apps.cache.store import TOMBSTONE_VERSION
from apps.config import settings
from apps.extensions import cache
from apps.models import Session, User
from apps.models.user import mobile_context
from apps.security import field_encryption
from apps.services.cache_epoch import heed_doubts, raise_doubt

_SCHEMA = "2"  # raise it when a snapshot changes its shape: old entries then are misses


class UserSnapshot(msgspec.Struct, frozen=True):
    """A row of `users`, as far as requests need it."""

    id: int
    version: int
    username: str
    age: int
    role: str
    is_blocked: bool
    mobile_ciphertext: bytes

    def is_of(self, user_id: int, _session_id: str) -> bool:
        """Whether it is the row that was asked for; a session is asked the same."""
        return self.id == user_id

    @property
    def mobile(self) -> str:
        """The mobile number, in clear."""
        return field_encryption.decrypt(self.mobile_ciphertext, mobile_context(self.id))


class SessionSnapshot(msgspec.Struct, frozen=True):
    """A row of `sessions`, as far as requests need it."""

    id: str
    user_id: int
    version: int
    refresh_generation: int
    last_used_time: datetime
    expire_time: datetime
    end_time: datetime
    revoke_time: datetime | None

    def is_of(self, user_id: int, session_id: str) -> bool:
        """Whether it is the row that was asked for."""
        return self.user_id == user_id and self.id == session_id


S = TypeVar("S", UserSnapshot, SessionSnapshot)

_users = msgspec.json.Decoder(UserSnapshot)
_sessions = msgspec.json.Decoder(SessionSnapshot)


def user_key(user_id: int) -> str:
    """Return the cache key of a user; the braces put all keys of one user on one node of a cluster."""
    return f"{settings().CACHE_PREFIX}:{_SCHEMA}:{{u:{user_id}}}:user"


def session_key(user_id: int, session_id: str) -> str:
    """Return the cache key of a session."""
    return f"{settings().CACHE_PREFIX}:{_SCHEMA}:{{u:{user_id}}}:session:{session_id}"


def snapshot_user(user: User) -> UserSnapshot:
    """Return what the cache keeps of `user`."""
    return UserSnapshot(
        id=user.id,
        version=user.version,
        username=user.username,
        age=user.age,
        role=user.role,
        is_blocked=user.block_time is not None,
        mobile_ciphertext=bytes(user.mobile_ciphertext),
    )


def snapshot_session(session: Session) -> SessionSnapshot:
    """Return what the cache keeps of `session`."""
    return SessionSnapshot(
        id=session.id,
        user_id=session.user_id,
        version=session.version,
        refresh_generation=session.refresh_generation,
        last_used_time=session.last_used_time,
        expire_time=session.expire_time,
        end_time=session.end_time,
        revoke_time=session.revoke_time,
    )


def introduce(*rows: User | Session) -> None:
    """Put rows of one user, which are new or as they were, into the cache: where it lacks them, it is not wrong."""
    cache.put([_entry(row) for row in rows])


def publish(*rows: User | Session) -> None:
    """Put rows of one user, as they were just changed and committed, into the cache; then nobody has old ones."""
    if rows and not cache.put([_entry(row) for row in rows]):
        raise_doubt()


def fill(lease: Lease, *rows: User | Session) -> None:
    """Put rows of one user, as they were just read after the look with this lease, into the cache."""
    cache.fill([_entry(row) for row in rows], lease)


def _entry(row: User | Session) -> tuple[str, int, str]:
    if isinstance(row, User):
        return user_key(row.id), row.version, _encode(snapshot_user(row))
    return session_key(row.user_id, row.id), row.version, _encode(snapshot_session(row))


def _encode(snapshot: UserSnapshot | SessionSnapshot) -> str:
    return msgspec.json.encode(snapshot).decode()


def bury_user(user_id: int) -> None:
    """Tell the cache that the user is deleted; without a user no session of theirs counts."""
    if not cache.bury(user_key(user_id)):
        raise_doubt()


class Found(msgspec.Struct, frozen=True):
    """What the cache knows of a user and one session of theirs."""

    user: UserSnapshot | None
    session: SessionSnapshot | None
    is_deleted: bool = False


def look_up(user_id: int, session_id: str, lease: Lease | None = None) -> Found:
    """Ask the cache, in one round trip; what it lacks, `fill` may then give it with the same lease."""
    heed_doubts()
    of_user, of_session = user_key(user_id), session_key(user_id, session_id)
    user_entry, session_entry = cache.get_many((of_user, of_session), lease)
    if user_entry == (TOMBSTONE_VERSION, of_user):
        return Found(None, None, is_deleted=True)
    return Found(
        _decode(_users, of_user, user_entry, user_id, session_id),
        _decode(_sessions, of_session, session_entry, user_id, session_id),
    )


def _decode(
    decoder: msgspec.json.Decoder[S], key: str, entry: tuple[int, str] | None, user_id: int, session_id: str
) -> S | None:
    """Return the snapshot of an entry; one that is corrupt, or another's, is dropped and counts as a miss."""
    if entry is None:
        return None
    version, value = entry
    try:
        snapshot = decoder.decode(value)
    except msgspec.DecodeError:
        snapshot = None
    if snapshot and snapshot.version == version and snapshot.is_of(user_id, session_id):
        return snapshot
    cache.forget(key)
    return None
