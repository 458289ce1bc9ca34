"""Sessions: opened by a login, renewed by a refresh, ended by a logout, looked at by every request."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, delete, select

from apps.config import settings
from apps.database.transaction import reading, transactional
from apps.errors import InvalidToken, SessionNotFound
from apps.extensions import db
from apps.models import Session
from apps.services.audit import record
from apps.services.identity_cache import SessionSnapshot, publish
from apps.utils import clock
from apps.utils.device import Device

_USE_RESOLUTION = timedelta(minutes=1)  # a refresh without rotation writes "last used" at most this often
_KEPT_AFTER_END = timedelta(days=1)  # so that what ended a session can still be read


@dataclass(frozen=True, slots=True)
class Opened:
    """A new session, and those that had to end for it."""

    session: Session
    ended: list[Session]


def open_session(user_id: int, device: Device) -> Opened:
    """Add the session of a login; part of the caller's transaction, which holds the user's row."""
    now = clock.now()
    ended = list(db.session.scalars(_over_the_cap(user_id, now)))
    for session in ended:
        _revoke(session, "too_many_sessions")
        record("session.end", user_id, session=session.id, reason="too_many_sessions")
    session = Session(
        id=secrets.token_hex(16),
        user_id=user_id,
        address=device.address,
        user_agent=device.user_agent,
        create_time=now,
        last_used_time=now,
        end_time=now + settings().SESSION_LIFETIME,
    )
    session.expire_time = _next_expiry(session, now)
    db.session.add(session)
    return Opened(session, ended)


def list_sessions(user_id: int) -> Sequence[Session]:
    """Return the live sessions of a user, the one used last first."""
    return _read_live(user_id)


def rotate(session_id: str, generation: int) -> Session:
    """Retire the refresh token of `generation` and return the session, which then promises the next one.

    A token that was retired less than `REFRESH_REUSE_GRACE` ago gets the same successor again, never a sibling. Any
    other use of a retired token means that two hold it: the whole session ends (RFC 9700, 4.14.2). Raises
    `InvalidToken`.
    """
    session = _rotate(session_id, generation)
    publish(session)
    if session.revoke_time:
        raise InvalidToken
    return session


def require_live(session_id: str) -> None:
    """Lock the session until the caller's transaction ends. Raises `InvalidToken` if it ended since it was looked at.

    Between the look at a token and the change that it asks for, a logout or a new password may have come.
    """
    session = db.session.get(Session, session_id, with_for_update=True)
    if session is None or session.revoke_time:
        raise InvalidToken


def end_session(session_id: str, reason: str, **detail: str) -> None:
    """Make every token of the session worthless, at once. An ended session stays ended for its first reason.

    The audit tells the reason and the `detail`.
    """
    session = _end(session_id, reason, detail)
    if session:
        publish(session)


def end_own_session(user_id: int, session_id: str) -> None:
    """End a session of the user from another one. Raises `SessionNotFound`."""
    if session_id not in [session.id for session in _read_live(user_id)]:
        raise SessionNotFound
    end_session(session_id, "ended_by_user")


def end_all_sessions(user_id: int, kept_session_id: str | None, reason: str) -> None:
    """End all live sessions of a user, but for the kept one where there is one."""
    publish(*_end_all(user_id, kept_session_id, reason))


def end_other_sessions(user_id: int, kept_session_id: str | None, reason: str) -> list[Session]:
    """End all live sessions of a user but one; part of the caller's transaction, who then publishes them."""
    ended = [
        session
        for session in db.session.scalars(_live(user_id, clock.now()).with_for_update())
        if session.id != kept_session_id
    ]
    for session in ended:
        _revoke(session, reason)
    return ended


def note_use(session: SessionSnapshot) -> None:
    """Remember that the session was used, to the minute."""
    if clock.now() - session.last_used_time >= _USE_RESOLUTION:
        row = _touch(session.id)
        if row:
            publish(row)


def purge_sessions(batch: int) -> int:
    """Delete the sessions that ended a day ago or more and return how many.

    At most `batch` rows a transaction, and none that another purge holds: it can run beside the service.
    """
    total = 0
    while deleted := _purge(batch):
        total += deleted
    return total


def _live(user_id: int, now: datetime) -> Select[Session]:
    """Select the sessions of which some token may still be accepted.

    Its access tokens outlive a refresh token that was not used in time, and clocks differ by the leeway.
    """
    longest: timedelta = settings().JWT_ACCESS_TOKEN_EXPIRES + settings().JWT_LEEWAY
    query = select(Session).where(
        Session.user_id == user_id, Session.revoke_time.is_(None), Session.expire_time > now - longest
    )
    return query.order_by(Session.last_used_time.desc(), Session.id)


def _over_the_cap(user_id: int, now: datetime) -> Select[Session]:
    """Select the sessions that must end before one more may begin."""
    return _live(user_id, now).offset(settings().SESSIONS_PER_USER - 1).limit(10_000).with_for_update()


def _next_expiry(session: Session, now: datetime) -> datetime:
    """Return when a refresh token issued now expires: idle for so long, and never after the session's end."""
    expiry: datetime = now + settings().JWT_REFRESH_TOKEN_EXPIRES
    return min(expiry, session.end_time)


def _revoke(session: Session, reason: str) -> None:
    session.revoke_time = clock.now()
    session.revoke_reason = reason
    session.expire_time = min(session.expire_time, session.revoke_time)  # by which the purge finds it


@reading
def _read_live(user_id: int) -> Sequence[Session]:
    return db.session.scalars(_live(user_id, clock.now())).all()


@transactional
def _rotate(session_id: str, generation: int) -> Session:
    session = db.session.get(Session, session_id, with_for_update=True)
    if session is None or session.revoke_time:
        raise InvalidToken
    now = clock.now()
    if generation == session.refresh_generation:
        session.refresh_generation += 1
        session.rotate_time = session.last_used_time = now
        session.expire_time = _next_expiry(session, now)
    elif not _may_be_retried(session, generation, now):
        _revoke(session, "refresh_token_reused")
        record("refresh_token.reuse", session.user_id, outcome="failure", session=session.id)
    return session


def _may_be_retried(session: Session, generation: int, now: datetime) -> bool:
    is_parent = generation == session.refresh_generation - 1
    grace: timedelta = settings().REFRESH_REUSE_GRACE
    # abs: neither a clock that steps back nor another machine's that is behind makes the grace longer.
    return is_parent and session.rotate_time is not None and abs(now - session.rotate_time) < grace


@transactional
def _end(session_id: str, reason: str, detail: dict[str, str]) -> Session | None:
    session = db.session.get(Session, session_id, with_for_update=True)
    if session and session.revoke_time is None:
        _revoke(session, reason)
        record("session.end", session.user_id, session=session.id, reason=reason, **detail)
    return session


@transactional
def _end_all(user_id: int, kept_session_id: str | None, reason: str) -> list[Session]:
    ended = end_other_sessions(user_id, kept_session_id, reason)
    record("session.end_all", user_id, count=len(ended), reason=reason)
    return ended


@transactional
def _touch(session_id: str) -> Session | None:
    session = db.session.get(Session, session_id, with_for_update=True)
    if session:
        session.last_used_time = clock.now()
    return session


@transactional
def _purge(batch: int) -> int:
    old = select(Session.id).where(Session.expire_time < clock.now() - _KEPT_AFTER_END).limit(batch)
    ids = db.session.scalars(old.with_for_update(skip_locked=True)).all()
    db.session.execute(delete(Session).where(Session.id.in_(ids)))
    return len(ids)
