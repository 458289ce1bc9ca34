"""What admins do with accounts: list, block, change roles. Every act is audited, and one admin always remains."""

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
from apps.models import User
from apps.security import field_encryption
from apps.services.account import IfMatch, Requester, lock_user, lock_user_for_deactivation
from apps.services.audit import record
from apps.services.session import revoke_sessions
from apps.utils import clock
from apps.utils.username import prefix_key

_PAGE = 50
_COLUMNS = {"id": User.id, "username": User.username_key, "create_time": User.create_time}

_PLACES: dict[str, Any] = {  # sort key and id of the last row of a page
    "id": tuple[int, int],
    "username": tuple[str, int],
    "create_time": tuple[datetime, int],
}
_MAC_LENGTH = 16
_LAST_CHARACTER = "\U0010ffff"  # of Unicode; no username has it, and the key's columns sort by code point


@dataclass(frozen=True, slots=True)
class UserPage:
    """Users in order, and the cursor of the next page: None on the last one."""

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
    # A prefix is a range of the index on usernames; sorted by id, every match would have to be read first.
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


@transactional
def block_user(user_id: int, requester: Requester, if_match: IfMatch) -> User:
    """Block an account: its sessions end, and logins fail.

    Raises `LastAdmin`, `ConcurrentUpdate`, and what `lock_user` raises.
    """
    user = lock_user_for_deactivation(user_id, requester, if_match)
    user.block_time = user.block_time or clock.now()
    revoke_sessions(user_id, "all", "blocked")
    record("user.block", user_id)
    return user


@transactional
def unblock_user(user_id: int, requester: Requester, if_match: IfMatch) -> User:
    """Unblock an account. Raises what `lock_user` raises."""
    user = lock_user(user_id, requester, if_match)
    user.block_time = None
    record("user.unblock", user_id)
    return user


@transactional
def change_role(user_id: int, role: str, requester: Requester, if_match: IfMatch) -> User:
    """Make a user an admin ("admin") or an admin a user ("user"), from the next request on.

    Raises `LastAdmin`, `ConcurrentUpdate`, and what `lock_user` raises.
    """
    lock = lock_user if role == "admin" else lock_user_for_deactivation
    user = lock(user_id, requester, if_match)
    before, user.role = user.role, role
    record("user.change_role", user_id, before=before, after=role)
    return user


@transactional
def end_sessions_of(user_id: int, requester: Requester, if_match: IfMatch) -> None:
    """End every session of a user. Raises what `lock_user` raises."""
    lock_user(user_id, requester, if_match)
    ended = revoke_sessions(user_id, "all", "ended_by_admin")
    record("session.end_all", user_id, count=len(ended), reason="ended_by_admin")


def _filtered(query: dict[str, Any]) -> Select[User]:
    statement: Select[User] = select(User)
    if "username" in query:
        # A range, which every database finds by the index; SQLite uses none for LIKE with an escape.
        first = prefix_key(query["username"])
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
    return _signed_cursor(msgspec.json.encode((key, user.id)), sort)


def _signed_cursor(place: bytes, sort: str) -> str:
    return base64.urlsafe_b64encode(field_encryption.mac(f"users by {sort}:".encode() + place) + place).decode()


def _read_cursor(cursor: str, sort: str) -> tuple[Any, int]:
    """Return the sort key and the id of the last row of the page before. Raises `InvalidBody` for a bad MAC."""
    try:
        place = base64.urlsafe_b64decode(cursor)[_MAC_LENGTH:]
    except ValueError:
        place = b""
    if not hmac.compare_digest(cursor.encode(), _signed_cursor(place, sort).encode()):
        raise InvalidBody("read query", {"cursor": ["Invalid cursor."]})
    key, user_id = msgspec.json.decode(place, type=_PLACES[sort.removeprefix("-")])
    return key, user_id


def _is_behind(column: Any, key: Any, user_id: int, *, is_descending: bool) -> ColumnElement[bool]:
    """Return the condition for the rows after a place. Every database can use an index for its first half."""
    if is_descending:
        return and_(column <= key, or_(column < key, User.id < user_id))
    return and_(column >= key, or_(column > key, User.id > user_id))
