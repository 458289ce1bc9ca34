"""Sessions: opened by a login, renewed by a refresh, ended by a logout."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from flask import current_app
from sqlalchemy import Select, delete, select

from apps.config import settings
from apps.database.transaction import reading, transactional
from apps.errors import InvalidToken, SessionNotFound
from apps.extensions import db
from apps.models import Session
from apps.models.session import RetiredTokenUse
from apps.services.audit import record
from apps.services.cache_mark import KEEPS_CACHE, cache_changed
from apps.services.identity_cache import CachedSession
from apps.utils import clock
from apps.utils.device import Device

Scope = Literal["this", "others", "all"]

_TOUCH_INTERVAL = timedelta(minutes=1)  # a refresh without rotation updates "last used" at most this often
_KEPT_AFTER_END = timedelta(days=1)  # so that the reason why a session ended can still be read


def open_session(user_id: int, device: Device) -> Session:
    """Add the session of a login, in the caller's transaction, which holds the user's row.

    If the user then has more than `SESSIONS_PER_USER` sessions, the least recently used ones end.
    """
    now = clock.now()
    for session in db.session.scalars(_over_the_cap(user_id, now)):
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
    return session


@reading
def list_sessions(user_id: int) -> Sequence[Session]:
    """Return the live sessions of a user, the most recently used first."""
    return db.session.scalars(_live(user_id, clock.now())).all()


def rotate(session_id: str, generation: int, user_agent: str) -> Session:
    """Retire the refresh token of `generation` and return the session, from which the next token is issued.

    The token that was retired last may get the same successor again, never a sibling (`REFRESH_REUSE`). Any other use
    of a retired token means that two parties hold it, so the session ends (RFC 9700, 4.14.2). Raises `InvalidToken`.
    """
    session, cause = _rotate(session_id, generation, user_agent)
    if cause and (metrics := current_app.extensions.get("metrics")):
        metrics.retired_tokens.labels(cause).inc()
    if session.revoke_time:  # raised here, after the commit: an error within would roll the revocation back
        raise InvalidToken
    return session


def require_live(session_id: str) -> None:
    """Lock the session in the caller's transaction. Raises `InvalidToken` if it has ended.

    The session may have ended since its token was verified, by a logout or a new password.
    """
    session = db.session.get(Session, session_id, with_for_update=True)
    if session is None or session.revoke_time:
        raise InvalidToken


@transactional
def end_sessions(user_id: int, scope: Scope, reason: str, session_id: str = "", **detail: str) -> None:
    """End sessions of a user: "this" one (`session_id`), all "others" (than `session_id`), or "all".

    Every process refuses their tokens at once. A session that has already ended keeps its reason. The audit records the
    reason and the `detail`.
    """
    ended = revoke_sessions(user_id, scope, reason, session_id)
    if scope != "this":
        record("session.end_all", user_id, count=len(ended), reason=reason)
    elif ended:
        record("session.end", user_id, session=session_id, reason=reason, **detail)


def log_out(session: CachedSession, *, everywhere: bool) -> None:
    """End a session, or all sessions of its user.

    Raises `InvalidToken` if `everywhere` is set and the session has expired: an expired session ends only itself.
    """
    if everywhere and session.expire_time <= clock.now() - _longest_after_expiry():
        raise InvalidToken
    end_sessions(session.user_id, "all" if everywhere else "this", "logout", session.id)


def end_own_session(user_id: int, session_id: str) -> None:
    """End one of the user's live sessions. Raises `SessionNotFound`."""
    if session_id not in [session.id for session in list_sessions(user_id)]:
        raise SessionNotFound
    end_sessions(user_id, "this", "ended_by_user", session_id)


def revoke_sessions(user_id: int, scope: Scope, reason: str, session_id: str = "") -> list[Session]:
    """End sessions as `end_sessions` does and return them, in the caller's transaction, without an audit event.

    Sessions that ended within CACHE_TTL are published again: the process that ended them may have died before that.
    """
    query = _live(user_id, clock.now())
    if scope == "this":
        query = select(Session).where(
            Session.id == session_id, Session.user_id == user_id, Session.revoke_time.is_(None)
        )
    found = db.session.scalars(query.with_for_update())
    ended = [session for session in found if scope != "others" or session.id != session_id]
    cache_changed(*db.session.scalars(_recently_ended(user_id)))
    for session in ended:
        _revoke(session, reason)
    return ended


def touch(session: CachedSession) -> None:
    """Update the time of last use, to the minute."""
    if clock.now() - session.last_used_time >= _TOUCH_INTERVAL:
        _touch(session.id)


def purge_sessions(batch: int) -> int:
    """Delete the sessions that ended a day ago or earlier and return their number.

    Each transaction deletes at most `batch` rows and skips those that another purge has locked, so it is safe to run
    beside the service.
    """
    total = 0
    while deleted := _purge(batch):
        total += deleted
    return total


def _live(user_id: int, now: datetime) -> Select[Session]:
    """Select the sessions of which a token may still be accepted."""
    begin = now - _longest_after_expiry()
    query = select(Session).where(
        Session.user_id == user_id, Session.revoke_time.is_(None), Session.expire_time > begin
    )
    return query.order_by(Session.last_used_time.desc(), Session.id)


def _recently_ended(user_id: int) -> Select[Session]:
    """Select the ended sessions that a cache may still hold as live ones."""
    since = clock.now() - timedelta(seconds=settings().CACHE_TTL)
    return select(Session).where(Session.user_id == user_id, Session.revoke_time > since)


def _longest_after_expiry() -> timedelta:
    """Return how long an access token can outlive the refresh token that it came from; clocks differ by the leeway."""
    return settings().JWT_ACCESS_TOKEN_EXPIRES + settings().JWT_LEEWAY


def _over_the_cap(user_id: int, now: datetime) -> Select[Session]:
    """Select the sessions that must end before one more may begin."""
    return _live(user_id, now).offset(settings().SESSIONS_PER_USER - 1).limit(10_000).with_for_update()


def _next_expiry(session: Session, now: datetime) -> datetime:
    """Return when a refresh token issued now expires: after the idle limit, and never after the session's end."""
    return min(now + settings().JWT_REFRESH_TOKEN_EXPIRES, session.end_time)


def _revoke(session: Session, reason: str) -> None:
    session.revoke_time = clock.now()
    session.revoke_reason = reason
    session.expire_time = min(session.expire_time, session.revoke_time)  # the purge looks at this column


@transactional
def _rotate(session_id: str, generation: int, user_agent: str) -> tuple[Session, RetiredTokenUse | None]:
    """Return the session and, if the token is retired, why. The lock of the row decides which request is first."""
    session = db.session.get(Session, session_id, with_for_update=True)
    if session is None or session.revoke_time:
        raise InvalidToken
    now = clock.now()
    if generation == session.refresh_generation:
        session.refresh_generation += 1
        session.rotate_time = session.last_used_time = now
        session.rotated_by = _agent_digest(session.refresh_generation, user_agent)
        session.expire_time = _next_expiry(session, now)
        return session, None
    cause = _why_retired(session, generation, user_agent, now)
    if cause in ("within_grace", "successor_unused"):
        record("refresh_token.retry", session.user_id, session=session.id, cause=cause)
    else:
        _revoke(session, "refresh_token_reused")
        record("refresh_token.reuse", session.user_id, outcome="failure", session=session.id, cause=cause)
    return session, cause


def _why_retired(session: Session, generation: int, user_agent: str, now: datetime) -> RetiredTokenUse:
    """Return the cause of the use of a retired token. Only the token before the current one has an unused successor."""
    if generation != session.refresh_generation - 1 or session.rotate_time is None:
        return "successor_used"
    age = abs(now - session.rotate_time)  # abs: a clock that was set back, or is behind, must not lengthen the time
    if age < settings().REFRESH_REUSE_GRACE:
        return "within_grace"
    if settings().REFRESH_REUSE == "grace":
        return "grace_over"
    if age >= settings().REFRESH_REUSE_WINDOW:
        return "window_over"
    is_same = session.rotated_by and bytes(session.rotated_by) == _agent_digest(session.refresh_generation, user_agent)
    return "successor_unused" if is_same else "other_user_agent"


def _agent_digest(generation: int, user_agent: str) -> bytes:
    """Return a digest of the User-Agent of a refresh, for `Session.rotated_by`.

    It includes the generation: a process of the previous release rotates without changing the column.
    """
    return hashlib.sha256(f"{generation} {user_agent}".encode()).digest()


@transactional
def _touch(session_id: str) -> None:
    session = db.session.get(Session, session_id, with_for_update=True)
    if session:
        session.last_used_time = clock.now()


@transactional
def _purge(batch: int) -> int:
    old = select(Session.id).where(Session.expire_time < clock.now() - _KEPT_AFTER_END).limit(batch)
    ids = db.session.scalars(old.with_for_update(skip_locked=True)).all()
    db.session.execute(delete(Session).where(Session.id.in_(ids)).execution_options(**KEEPS_CACHE))  # no token is left
    return len(ids)
