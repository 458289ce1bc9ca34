"""What admins do to accounts: list, block, change roles. Every act is audited, and the last admin stays."""

import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, and_, or_, select

from apps.database.transaction import reading, transactional
from apps.errors import InvalidBody
from apps.extensions import db
from apps.models import Session, User
from apps.security import field_encryption
from apps.services.audit import record
from apps.services.identity_cache import publish
from apps.services.session import end_other_sessions
from apps.services.user import Author, lock_user, lock_user_to_remove
from apps.utils import clock
from apps.utils.username import beginning_of

_PAGE = 50
_COLUMNS = {"id": User.id, "username": User.username_key, "create_time": User.create_time}

_PLACES: dict[str, Any] = {  # sort key and id of the last row of a page
    "id": tuple[int, int],
    "username": tuple[str, int],
    "create_time": tuple[datetime, int],
}
_SEAL_LENGTH = 16
_LAST_CHARACTER = "\U0010ffff"  # of Unicode; no username has it, and the key's columns sort by code point


@dataclass(frozen=True, slots=True)
class UserPage:
    """Users in order, and the cursor of the page after them: None on the last one."""

    users: Sequence[User]
    next: str | None


@reading
def list_users(query: dict[str, Any]) -> UserPage:
    """Return a page of users.

    `query` may hold `username` (a prefix), `mobile` (exact), `role`, `blocked`, `sort` (a column, "-" before it for
    descending; without it by id or, with a prefix, by username), `limit` (1 to 100) and `cursor`. A page costs the
    same wherever it is: it begins behind a row, not after a count of them. Raises `InvalidBody` for a cursor that this
    service did not make.
    """
    # Names that begin alike lie together in the order of names alone: sorted by id, all of them would have to be read.
    sort = query.get("sort", "username" if "username" in query else "id")
    limit = query.get("limit", _PAGE)
    statement = _filtered(query)
    column = _COLUMNS[sort.removeprefix("-")]
    if "cursor" in query:
        key, user_id = _read_cursor(query["cursor"], sort)
        statement = statement.where(_is_behind(column, key, user_id, is_descending=sort.startswith("-")))
    order = (column.desc(), User.id.desc()) if sort.startswith("-") else (column, User.id)
    users = db.session.scalars(statement.order_by(*order).limit(limit + 1)).all()
    page = users[:limit]
    return UserPage(page, _make_cursor(page[-1], sort) if len(users) > limit else None)


def block_user(user_id: int, author: Author) -> User:
    """Let nobody use the account: its sessions end, and a login fails.

    Raises `LastAdmin`, `ConcurrentUpdate`, and what `lock_user` does.
    """
    user, ended = _block(user_id, author)
    publish(user, *ended)
    return user


def unblock_user(user_id: int, author: Author) -> User:
    """Let the account be used again. Raises what `lock_user` does."""
    user = _unblock(user_id, author)
    publish(user)
    return user


def change_role(user_id: int, role: str, author: Author) -> User:
    """Make the user an admin or an admin a user, from the next request on.

    Raises `LastAdmin`, `ConcurrentUpdate`, and what `lock_user` does.
    """
    user = _change_role(user_id, role, author)
    publish(user)
    return user


def end_sessions_of(user_id: int, author: Author) -> None:
    """End every session of the user. Raises what `lock_user` does."""
    publish(*_end_sessions(user_id, author))


def _filtered(query: dict[str, Any]) -> Select[User]:
    statement: Select[User] = select(User)
    if "username" in query:
        # A range, which every database finds by the index; SQLite has none for LIKE with an escape.
        first = beginning_of(query["username"])
        statement = statement.where(User.username_key >= first, User.username_key <= first + _LAST_CHARACTER)
    if "mobile" in query:
        statement = statement.where(User.mobile_index == field_encryption.blind_index(query["mobile"]))
    if "role" in query:
        statement = statement.where(User.role == query["role"])
    if "blocked" in query:
        statement = statement.where(User.block_time.is_not(None) if query["blocked"] else User.block_time.is_(None))
    return statement


def _make_cursor(user: User, sort: str) -> str:
    key = getattr(user, _COLUMNS[sort.removeprefix("-")].key)
    return _sealed(msgspec.json.encode((key, user.id)), sort)


def _sealed(place: bytes, sort: str) -> str:
    return base64.urlsafe_b64encode(field_encryption.seal(f"users by {sort}:".encode() + place) + place).decode()


def _read_cursor(cursor: str, sort: str) -> tuple[Any, int]:
    """Return the sort key and the id of the last row of the page before; nothing of a cursor is read but our own."""
    try:
        place = base64.urlsafe_b64decode(cursor)[_SEAL_LENGTH:]
    except ValueError:
        place = b""
    if not hmac.compare_digest(cursor.encode(), _sealed(place, sort).encode()):
        raise InvalidBody("read query", {"cursor": ["Not a cursor of this list and order."]})
    key, user_id = msgspec.json.decode(place, type=_PLACES[sort.removeprefix("-")])
    return key, user_id


def _is_behind(column: Any, key: Any, user_id: int, *, is_descending: bool) -> ColumnElement[bool]:
    """Return the condition for rows behind one; the first half alone is what every database finds by its index."""
    if is_descending:
        return and_(column <= key, or_(column < key, User.id < user_id))
    return and_(column >= key, or_(column > key, User.id > user_id))


@transactional
def _block(user_id: int, author: Author) -> tuple[User, list[Session]]:
    user = lock_user_to_remove(user_id, author)
    user.block_time = user.block_time or clock.now()
    ended = end_other_sessions(user_id, None, "blocked")
    record("user.block", user_id)
    return user, ended


@transactional
def _end_sessions(user_id: int, author: Author) -> list[Session]:
    lock_user(user_id, author)
    ended = end_other_sessions(user_id, None, "ended_by_admin")
    record("session.end_all", user_id, count=len(ended), reason="ended_by_admin")
    return ended


@transactional
def _unblock(user_id: int, author: Author) -> User:
    user = lock_user(user_id, author)
    user.block_time = None
    record("user.unblock", user_id)
    return user


@transactional
def _change_role(user_id: int, role: str, author: Author) -> User:
    user = lock_user(user_id, author) if role == "admin" else lock_user_to_remove(user_id, author)
    before, user.role = user.role, role
    record("user.change_role", user_id, before=before, after=role)
    return user
