"""Users: signed up, updated, deleted."""

from datetime import datetime

from sqlalchemy.exc import IntegrityError

from apps.database.transaction import transactional, violates
from apps.errors import Forbidden, UsernameTaken
from apps.extensions import db
from apps.models import User
from apps.security.field_encryption import Undecryptable
from apps.services.account import IfMatch, Requester, lock_user, lock_user_for_deactivation, read_user, require_fresh
from apps.services.audit import record
from apps.services.cache_mark import cache_new
from apps.services.key import require_signing_key
from apps.services.login import Login
from apps.services.login_attempt import delete_attempts
from apps.services.password import hash_new_password, is_current_password
from apps.services.session import open_session, revoke_sessions
from apps.services.unreadable_field import report_unreadable_mobile
from apps.utils import username as usernames
from apps.utils.device import Device


def sign_up(username: str, password: str, mobile: str, age: int, birth: datetime, device: Device) -> Login:
    """Create an account and open its first session.

    Raises `UsernameTaken`, `WeakPassword`, `Overloaded`, `NoSigningKey`.
    """
    require_signing_key()
    return _sign_up(username, hash_new_password(password, username), mobile, age, birth, device)


def create_admin(username: str, password: str, mobile: str, age: int, birth: datetime) -> User:
    """Create an admin. No HTTP route does this. Raises `UsernameTaken`, `WeakPassword`."""
    return _create_admin(username, hash_new_password(password, username), mobile, age, birth)


def update_user(
    user_id: int,
    requester: Requester,
    if_match: IfMatch,
    *,
    username: str | None = None,
    password: str | None = None,
    mobile: str | None = None,
    age: int | None = None,
    birth: datetime | None = None,
) -> User:
    """Change the given fields; None leaves a field alone. A new password ends all sessions but the requester's.

    Raises `UserNotFound`, `UsernameTaken`, `WeakPassword`, `StaleVersion`, `TooManyRequests`, `Overloaded`;
    `DataUnreadable` if the mobile number cannot be decrypted, and no new one is given;
    `FreshTokenRequired` for a new password or mobile number without a fresh login; `Forbidden` for a new password of
    another user (ASVS 6.4.6: an admin does not know the passwords of others).
    """
    hashed = None
    if password is not None:
        before = read_user(user_id)
        if not is_current_password(before, password, requester):
            if requester.user_id != user_id:
                raise Forbidden
            require_fresh(requester)
            hashed = hash_new_password(password, username or before.username)
    try:
        return _update(
            user_id, requester, if_match, username=username, hashed=hashed, mobile=mobile, age=age, birth=birth
        )
    except Undecryptable as error:
        raise report_unreadable_mobile(user_id, error) from None


@transactional
def delete_user(user_id: int, requester: Requester, if_match: IfMatch) -> None:
    """Delete a user and all their sessions. Raises `UserNotFound`, `StaleVersion`, `LastAdmin`."""
    user = lock_user_for_deactivation(user_id, requester, if_match)
    delete_attempts(user)
    db.session.delete(user)
    record("user.delete", user_id)


@transactional
def _sign_up(username: str, hashed: str, mobile: str, age: int, birth: datetime, device: Device) -> Login:
    user = _add_user(username, hashed, mobile, age, birth)
    session = open_session(user.id, device)
    record("user.sign_up", user.id)
    cache_new(user, session)
    return Login(user, session)


@transactional
def _create_admin(username: str, hashed: str, mobile: str, age: int, birth: datetime) -> User:
    user = _add_user(username, hashed, mobile, age, birth)
    user.role = "admin"
    record("user.create", user.id, role=user.role)
    return user


def _add_user(username: str, hashed: str, mobile: str, age: int, birth: datetime) -> User:
    # The mobile number follows after the flush: its encryption needs the id. So a new user has version 2.
    user = User(password_hash=hashed, age=age, birth=birth, mobile_ciphertext=b"", mobile_index=b"")
    _set_username(user, username)
    db.session.add(user)
    _flush_username()
    user.set_mobile(mobile)
    return user


def _set_username(user: User, username: str) -> None:
    user.username, user.username_key = username, usernames.canonical(username)


def _flush_username() -> None:
    """Flush, and let the unique constraint decide whether the name is free. Raises `UsernameTaken`."""
    try:
        db.session.flush()
    except IntegrityError as error:
        if violates(error, "uq_users_username_key", "users.username_key"):
            raise UsernameTaken from error
        raise


@transactional
def _update(
    user_id: int,
    requester: Requester,
    if_match: IfMatch,
    *,
    username: str | None,
    hashed: str | None,
    mobile: str | None,
    age: int | None,
    birth: datetime | None,
) -> User:
    user = lock_user(user_id, requester, if_match)
    if mobile is None:
        _ = user.mobile  # raises `Undecryptable` before anything is changed: the answer needs it
    before = _facts(user)
    if username is not None:
        _set_username(user, username)
        _flush_username()
    if mobile is not None and not user.has_mobile(mobile):
        require_fresh(requester)
        user.set_mobile(mobile)
    user.age = user.age if age is None else age
    user.birth = user.birth if birth is None else birth
    if hashed is not None:
        user.password_hash = hashed
        revoke_sessions(user_id, "others", "password_changed", requester.session_id)
    changed = [name for name, value in _facts(user).items() if value != before[name]]
    if changed:
        record("user.update", user_id, changed=changed)
    return user


def _facts(user: User) -> dict[str, object]:
    """Return the columns whose change the audit records, by the name that it gives them."""
    return {
        "age": user.age,
        "birth": user.birth,
        "mobile": bytes(user.mobile_ciphertext),
        "password": user.password_hash,
        "username": user.username,
    }
