"""Users: signed up, updated, deleted."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from apps.database.transaction import reading, transactional, violates
from apps.errors import (
    ConcurrentUpdate,
    Forbidden,
    FreshTokenRequired,
    LastAdmin,
    StaleVersion,
    UsernameTaken,
    UserNotFound,
    WeakPassword,
    WrongCredentials,
)
from apps.extensions import db
from apps.models import Session, User
from apps.security import password_blocklist, password_hash
from apps.services.audit import record
from apps.services.identity_cache import bury_user, introduce, publish
from apps.services.key import require_signing_key
from apps.services.login import Login, delete_attempts, forget_attempts, take_back_verification, verify_password
from apps.services.session import end_other_sessions, open_session, require_live
from apps.utils import username as usernames
from apps.utils.device import Device


def sign_up(username: str, password: str, mobile: str, age: int, birth: datetime, device: Device) -> Login:
    """Create an account and open its first session.

    Raises `UsernameTaken`, `WeakPassword`, `Overloaded`, `NoSigningKey`.
    """
    require_signing_key()
    hashed = _hash_new(password, username)
    login = _create(username, hashed, mobile, age, birth, device)
    introduce(login.user, login.session)
    return login


def create_admin(username: str, password: str, mobile: str, age: int, birth: datetime) -> User:
    """Create an admin; nothing that comes over HTTP can. Raises `UsernameTaken`, `WeakPassword`."""
    return _create_user(username, _hash_new(password, username), mobile, age, birth, role="admin")


def read_user(user_id: int) -> User:
    """Return a user, from the database. Raises `UserNotFound`."""
    user = _read(user_id)
    if user is None:
        raise UserNotFound(user_id)
    return user


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes a user: from which session, with how fresh a login, and which versions they may have read."""

    user_id: int
    session_id: str
    is_fresh: bool
    versions: frozenset[str] | None  # one of these; None: whichever is there


def update_user(
    user_id: int,
    author: Author,
    *,
    username: str | None = None,
    password: str | None = None,
    mobile: str | None = None,
    age: int | None = None,
    birth: datetime | None = None,
) -> User:
    """Change what is given and leave alone what is None; a new password ends all sessions but the author's.

    Raises `UserNotFound`, `UsernameTaken`, `WeakPassword`, `StaleVersion`, `TooManyRequests`, `Overloaded`;
    `FreshTokenRequired` when the password or the mobile number would change without a fresh login; `Forbidden` when the
    password would change by somebody else (ASVS 6.4.6: an admin does not know the passwords of others).
    """
    hashed = None
    if password is not None:
        before = read_user(user_id)
        if not _is_password(before, password, author):
            _require_own(author, user_id)
            _require_fresh(author)
            hashed = _hash_new(password, username or before.username)
    user, ended = _update(user_id, author, username, hashed, mobile, age, birth)
    publish(user, *ended)
    return user


def delete_user(user_id: int, author: Author) -> None:
    """Delete a user and all their sessions. Raises `UserNotFound`, `StaleVersion`, `LastAdmin`."""
    _delete(user_id, author)
    bury_user(user_id)


def change_password(user_id: int, session_id: str, current_password: str, new_password: str) -> None:
    """Set a new password for who knows the current one; every other session of the user ends.

    Raises `WrongCredentials`, `TooManyRequests`, `WeakPassword`, `Overloaded`.
    """
    before = verify_password(read_user(user_id), current_password, user_id)
    user, ended = _set_password(before, session_id, _hash_new(new_password, before.username, "new_password"))
    publish(user, *ended)


def _hash_new(password: str, username: str, field: str = "password") -> str:
    if password_blocklist.is_refused(password, username):
        raise WeakPassword(field)
    return password_hash.make(password)


@transactional
def _create(username: str, hashed: str, mobile: str, age: int, birth: datetime, device: Device) -> Login:
    user = _add_user(username, hashed, mobile, age, birth)
    login = Login(user, open_session(user.id, device).session, [])
    record("user.sign_up", user.id)
    return login


@transactional
def _create_user(username: str, hashed: str, mobile: str, age: int, birth: datetime, *, role: str) -> User:
    user = _add_user(username, hashed, mobile, age, birth)
    user.role = role
    record("user.create", user.id, role=role)
    return user


def _add_user(username: str, hashed: str, mobile: str, age: int, birth: datetime) -> User:
    user = User(password_hash=hashed, age=age, birth=birth, mobile_ciphertext=b"", mobile_index=b"")
    _set_username(user, username)
    db.session.add(user)
    _flush_username()
    user.set_mobile(mobile)  # after the flush: it is encrypted for the row's id
    return user


def _set_username(user: User, username: str) -> None:
    user.username, user.username_key = username, usernames.canonical(username)


def _flush_username() -> None:
    """Let the database decide whether the name is free: a look-up first would only widen the race."""
    try:
        db.session.flush()
    except IntegrityError as error:
        if violates(error, "uq_users_username_key", "users.username_key"):
            raise UsernameTaken from error
        raise


@reading
def _read(user_id: int) -> User | None:
    return db.session.get(User, user_id)


def lock_user_to_remove(user_id: int, author: Author) -> User:
    """Return the row, locked as by `lock_user`, of a user who will no longer act.

    Raises `LastAdmin` when no other admin could, `ConcurrentUpdate`, and what `lock_user` does.
    """
    role = db.session.scalar(select(User.role).where(User.id == user_id))
    if role == "admin":
        _refuse_last_admin(user_id)
    user = lock_user(user_id, author)
    if user.role != role:  # made an admin meanwhile, by which another one may have felt free to go
        raise ConcurrentUpdate
    return user


def _refuse_last_admin(user_id: int) -> None:
    """Lock every admin's row, in one order, so that two admins who go at once go one after the other."""
    admins = select(User.id).where(User.role == "admin", User.block_time.is_(None)).order_by(User.id).with_for_update()
    if db.session.scalars(admins).all() == [user_id]:
        raise LastAdmin


def _is_password(user: User, password: str, author: Author) -> bool:
    """Whether the user has this password already. Who may not set one could guess it by the answer, so that counts."""
    if author.is_fresh and author.user_id == user.id:
        return password_hash.matches(password, user.password_hash)
    try:
        verify_password(user, password, author.user_id)
    except WrongCredentials:
        return False
    take_back_verification(user, author.user_id)
    return True


def _require_own(author: Author, user_id: int) -> None:
    if author.user_id != user_id:
        raise Forbidden


def _require_fresh(author: Author) -> None:
    if not author.is_fresh:
        raise FreshTokenRequired


def lock_user(user_id: int, author: Author) -> User:
    """Return the row that the author wants to change, locked until the caller's transaction ends, as theirs is.

    Between the look at a token and the change that it asks for, its owner may have been logged out, blocked or demoted.
    Raises `InvalidToken`, `Forbidden`, `UserNotFound`, `StaleVersion`.
    """
    rows = select(User).where(User.id.in_({user_id, author.user_id})).order_by(User.id).with_for_update()
    locked = {user.id: user for user in db.session.scalars(rows.execution_options(populate_existing=True))}
    require_live(author.session_id)
    if author.user_id != user_id and locked[author.user_id].role != "admin":
        raise Forbidden
    if user_id not in locked:
        raise UserNotFound(user_id)
    if author.versions is not None and str(locked[user_id].version) not in author.versions:
        raise StaleVersion
    return locked[user_id]


@transactional
def _set_password(before: User, kept_session_id: str, hashed: str) -> tuple[User, list[Session]]:
    user = lock_user(before.id, Author(before.id, kept_session_id, is_fresh=True, versions=None))
    if user.password_hash != before.password_hash:
        raise WrongCredentials  # changed since it was verified
    user.password_hash = hashed
    forget_attempts(user)
    ended = end_other_sessions(user.id, kept_session_id, "password_changed")
    record("password.change", user.id)
    return user, ended


@transactional
def _update(
    user_id: int,
    author: Author,
    username: str | None,
    hashed: str | None,
    mobile: str | None,
    age: int | None,
    birth: datetime | None,
) -> tuple[User, list[Session]]:
    user = lock_user(user_id, author)
    before = _facts(user)
    if username is not None:
        _set_username(user, username)
        _flush_username()
    if mobile is not None and not user.has_mobile(mobile):
        _require_fresh(author)
        user.set_mobile(mobile)
    user.age = user.age if age is None else age
    user.birth = user.birth if birth is None else birth
    ended: list[Session] = []
    if hashed is not None:
        user.password_hash = hashed
        ended = end_other_sessions(user_id, author.session_id, "password_changed")
    changed = [name for name, value in _facts(user).items() if value != before[name]]
    if changed:
        record("user.update", user_id, changed=changed)
    return user, ended


def _facts(user: User) -> dict[str, object]:
    return {
        "age": user.age,
        "birth": user.birth,
        "mobile": bytes(user.mobile_ciphertext),
        "password": user.password_hash,
        "username": user.username,
    }


@transactional
def _delete(user_id: int, author: Author) -> None:
    user = lock_user_to_remove(user_id, author)
    delete_attempts(user)
    db.session.delete(user)
    record("user.delete", user_id)
