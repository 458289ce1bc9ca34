"""Login: a session for the right password."""

from dataclasses import dataclass

from sqlalchemy import select

from apps.database.transaction import reading, transactional
from apps.errors import Overloaded, WrongCredentials
from apps.extensions import db
from apps.models import Session, User
from apps.security import password_hash
from apps.services.audit import record
from apps.services.cache_mark import cache_new
from apps.services.key import require_signing_key
from apps.services.login_attempt import count_attempt, login_digest, reset_attempts
from apps.services.password import require_password
from apps.services.session import open_session
from apps.utils.device import Device
from apps.utils.username import lookup_key


@dataclass(frozen=True, slots=True)
class Login:
    """A user and the session that was just opened for them."""

    user: User
    session: Session


def log_in(username: str, password: str, device: Device) -> Login:
    """Open a session for the right password.

    An unknown user and a wrong password take the same time and get the same answer. Raises `WrongCredentials`,
    `TooManyRequests` while the account is delayed, `Overloaded`, `NoSigningKey`.
    """
    require_signing_key()
    key = lookup_key(username)
    with password_hash.hashing_slot():
        user = count_attempt(login_digest(key), key)
        login = _enter(key, user, password, device) or _enter(key, _find(key), password, device)
    if login is None:
        raise WrongCredentials
    return login


def _enter(key: str, found: User | None, password: str, device: Device) -> Login | None:
    """Check the password and open the session; None if the hash was replaced meanwhile, by a change or a rehash."""
    user = require_password(found, password, "login", login_digest(key))
    return _open(user.id, user.password_hash, _rehashed(password, user.password_hash), device)


def _rehashed(password: str, stored: str) -> str | None:
    """Return a new hash if the stored one has other parameters than the settings; None if not, or under load."""
    try:
        return password_hash.hash_password(password) if password_hash.is_outdated(stored) else None
    except Overloaded:  # a later login will do it
        return None


@reading
def _find(key: str) -> User | None:
    return db.session.scalars(select(User).where(User.username_key == key)).one_or_none()


@transactional
def _open(user_id: int, verified_hash: str, new_hash: str | None, device: Device) -> Login | None:
    """Open the session if the verified hash is still the user's."""
    user = db.session.get(User, user_id, with_for_update=True)
    if user is None or user.password_hash != verified_hash:
        return None
    if user.block_time:
        raise WrongCredentials
    if new_hash:
        user.password_hash = new_hash
    reset_attempts(user)
    session = open_session(user_id, device)
    record("login", user_id, session=session.id)
    cache_new(user, session)
    return Login(user, session)
