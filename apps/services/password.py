"""Passwords: checked against a hash, with every guess counted, and changed."""

from apps.config import settings
from apps.database.transaction import transactional
from apps.errors import Overloaded, WeakPassword, WrongCredentials
from apps.models import User
from apps.security import password_blocklist, password_hash
from apps.services.account import Requester, lock_user, read_user
from apps.services.audit import record, record_alone
from apps.services.login_attempt import count_attempt, refund_attempt, reset_attempts, session_digest
from apps.services.session import revoke_sessions


def hash_new_password(password: str, username: str, field: str = "password") -> str:
    """Return the hash of a password that a user chose. Raises `WeakPassword` (about `field`), `Overloaded`."""
    if settings().PASSWORD_BLOCKLIST and password_blocklist.is_listed(password, username):
        raise WeakPassword(field)
    return password_hash.hash_password(password)


def check_password(user: User, password: str, requester_id: int) -> User:
    """Return the user as they are now if `password` is theirs, for a request from a live session.

    The guess counts as a login does, but in a counter of its own for each requester: strangers who guess at the login
    cannot keep the owner from a new password (ASVS 6.1.1). Raises `WrongCredentials`, `TooManyRequests`, `Overloaded`.
    """
    digest = session_digest(user, requester_id)
    with password_hash.hashing_slot():
        now = count_attempt(digest, user.username_key)
        return require_password(now, password, "password.verify", digest)


def require_password(user: User | None, password: str, event: str, digest: bytes) -> User:
    """Return `user` if `password` is theirs; audit `event` and raise `WrongCredentials` if not, or if there is none.

    `digest` names the counter of the attempt, which is refunded on `Overloaded`. A blocked user cannot log in, and
    costs the same work as an unknown one (E1).
    """
    stored = None if user is None or (user.block_time and event == "login") else user.password_hash
    try:
        is_right = password_hash.verify_password(password, stored)
    except Overloaded:
        refund_attempt(digest)  # nothing was guessed
        raise
    if user is None or not is_right:
        record_alone(event, user.id if user else None, outcome="failure")
        raise WrongCredentials
    return user


def is_current_password(user: User, password: str, requester: Requester) -> bool:
    """Return True if the user has this password already.

    A requester who may not set a password could use the answer to guess one, so then the guess counts.
    """
    if requester.is_fresh and requester.user_id == user.id:
        return password_hash.verify_password(password, user.password_hash)
    try:
        check_password(user, password, requester.user_id)
    except WrongCredentials:
        return False
    refund_attempt(session_digest(user, requester.user_id))
    return True


def change_password(user_id: int, session_id: str, current_password: str, new_password: str) -> None:
    """Set a new password for a user who knows the current one, and end every other session.

    Raises `WrongCredentials`, `TooManyRequests`, `WeakPassword`, `Overloaded`.
    """
    before = check_password(read_user(user_id), current_password, user_id)
    _set_password(before, session_id, hash_new_password(new_password, before.username, "new_password"))


@transactional
def _set_password(before: User, session_id: str, hashed: str) -> None:
    user = lock_user(before.id, Requester(before.id, session_id, is_fresh=True))
    if user.password_hash != before.password_hash:
        raise WrongCredentials  # changed since it was verified
    user.password_hash = hashed
    reset_attempts(user)
    revoke_sessions(user.id, "others", "password_changed", session_id)
    record("password.change", user.id)
