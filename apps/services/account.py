"""Helpers for every change of an account: the requester, and the locked row of the user."""

from dataclasses import dataclass

from sqlalchemy import select

from apps.database.transaction import reading
from apps.errors import ConcurrentUpdate, Forbidden, FreshTokenRequired, LastAdmin, StaleVersion, UserNotFound
from apps.extensions import db
from apps.models import User
from apps.services.cache_mark import cache_changed
from apps.services.session import require_live

IfMatch = frozenset[str] | None  # versions that the client may have read (RFC 9110, 13.1.1); None: any


@dataclass(frozen=True, slots=True)
class Requester:
    """The user and the session that request a change, and whether the token is fresh: from a login, not a refresh."""

    user_id: int
    session_id: str
    is_fresh: bool


@reading
def read_user(user_id: int) -> User:
    """Return a user, from the database. Raises `UserNotFound`."""
    user = db.session.get(User, user_id)
    if user is None:
        raise UserNotFound(user_id)
    return user


def lock_user(user_id: int, requester: Requester, if_match: IfMatch = None) -> User:
    """Lock the user's row and the requester's until the caller's transaction ends. Return the user.

    The requester may have been logged out, blocked or demoted since their token was verified, so this is checked again
    under the lock. Raises `InvalidToken`, `Forbidden`, `UserNotFound`, `StaleVersion`.
    """
    rows = select(User).where(User.id.in_({user_id, requester.user_id})).order_by(User.id).with_for_update()
    locked = {user.id: user for user in db.session.scalars(rows.execution_options(populate_existing=True))}
    require_live(requester.session_id)
    if requester.user_id != user_id and locked[requester.user_id].role != "admin":
        raise Forbidden
    if user_id not in locked:
        raise UserNotFound(user_id)
    if if_match is not None and str(locked[user_id].version) not in if_match:
        raise StaleVersion
    cache_changed(locked[user_id])  # even without a change: a process may have died before it published the last one
    return locked[user_id]


def lock_user_for_deactivation(user_id: int, requester: Requester, if_match: IfMatch = None) -> User:
    """Lock a user who is about to be deleted, blocked or demoted, as `lock_user` does.

    Raises `LastAdmin` if no other admin could act, `ConcurrentUpdate`, and what `lock_user` raises.
    """
    role = db.session.scalar(select(User.role).where(User.id == user_id))
    if role == "admin":
        _require_another_admin(user_id)
    user = lock_user(user_id, requester, if_match)
    if user.role != role:  # promoted meanwhile, so another admin may have been allowed to leave
        raise ConcurrentUpdate
    return user


def require_fresh(requester: Requester) -> None:
    """Raise `FreshTokenRequired` unless the token is fresh."""
    if not requester.is_fresh:
        raise FreshTokenRequired


def _require_another_admin(user_id: int) -> None:
    """Lock the rows of all active admins, in the order of their ids. Raise `LastAdmin` if there is no other one.

    Because of the lock, two admins cannot be removed at the same time.
    """
    admins = select(User.id).where(User.role == "admin", User.block_time.is_(None)).order_by(User.id).with_for_update()
    if db.session.scalars(admins).all() == [user_id]:
        raise LastAdmin
