"""Login: a password against an account, and the brake on guessing one."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Select, delete, select, update
from sqlalchemy.exc import IntegrityError

from apps.config import settings
from apps.database.transaction import reading, transactional
from apps.errors import Overloaded, TooManyRequests, WrongCredentials
from apps.extensions import db
from apps.models import LoginAttempt, Session, User
from apps.security import password_hash
from apps.services.audit import record, record_alone
from apps.services.identity_cache import introduce, publish
from apps.services.key import require_signing_key
from apps.services.session import open_session
from apps.utils import clock
from apps.utils.device import Device
from apps.utils.username import key_of

_FORGOTTEN_AFTER = timedelta(days=1)
_PURGE_BATCH = 1000
_MOST_TRIES = 5  # to count an attempt among many others on one name


@dataclass(frozen=True, slots=True)
class Login:
    """A user, the session that was just opened for them, and those that had to end for it."""

    user: User
    session: Session
    ended: list[Session]


def log_in(username: str, password: str, device: Device) -> Login:
    """Open a session for the right password.

    Unknown user and wrong password cost the same work and give the same answer. Raises `WrongCredentials`,
    `TooManyRequests` while the account makes its guesser wait, `Overloaded`, `NoSigningKey`.
    """
    require_signing_key()
    key = key_of(username)
    with password_hash.admission():
        user = _count_attempt(_digest(key), key)
        login = _enter(key, user, password, device) or _enter(key, _find(key), password, device)
    if login is None:
        raise WrongCredentials
    introduce(login.user, login.session)
    publish(*login.ended)
    return login


def verify_password(user: User, password: str, author_id: int) -> User:
    """Return the user as they are now if the password is theirs, asked from a live session of the author.

    The guess counts as one at login does, but apart, for each author: neither strangers who guess at the login nor an
    admin keep the owner from a new password (ASVS 6.1.1). Raises `WrongCredentials`, `TooManyRequests`, `Overloaded`.
    """
    digest = _digest_within(user, author_id)
    with password_hash.admission():
        now = _count_attempt(digest, user.username_key)
        return _check_password(now, password, "password.verify", digest)


def take_back_verification(user: User, author_id: int) -> None:
    """Let the last `verify_password` not count: it told the sender nothing new."""
    _take_back_attempt(_digest_within(user, author_id))


def forget_attempts(user: User) -> None:
    """Start the counts anew after a right password; part of the caller's transaction."""
    # Not deleted: parallel logins would race to insert the row again.
    counted = update(LoginAttempt).where(LoginAttempt.username_digest.in_(_digests_of(user)))
    db.session.execute(counted.values(failed_count=0))


def delete_attempts(user: User) -> None:
    """Leave nothing that tells of a user who goes; part of the caller's transaction."""
    db.session.execute(delete(LoginAttempt).where(LoginAttempt.username_digest.in_(_digests_of(user))))


def purge_attempts() -> int:
    """Delete the counts that no longer count and return how many; safe to run beside the service."""
    total = 0
    while deleted := _purge_attempts():
        total += deleted
    return total


def _enter(key: str, found: User | None, password: str, device: Device) -> Login | None:
    """Return None if the hash was replaced while it was looked at: by a new password, or by a login that rehashed."""
    user = _check_password(found, password, "login", _digest(key))
    return _open(user.id, user.password_hash, _better_hash(password, user.password_hash), device)


def _check_password(user: User | None, password: str, event: str, digest: bytes) -> User:
    try:
        is_right = password_hash.matches(password, user.password_hash if user else None)
    except Overloaded:
        _take_back_attempt(digest)  # nothing was guessed
        raise
    if user is None or not is_right or (user.block_time and event == "login"):
        record_alone(event, user.id if user else None, outcome="failure")
        raise WrongCredentials
    return user


def _better_hash(password: str, stored: str) -> str | None:
    try:
        return password_hash.make(password) if password_hash.is_outdated(stored) else None
    except Overloaded:  # a later login will do
        return None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _digest_within(user: User, author_id: int) -> bytes:
    """Return what guesses from within a session are counted by: no name that is typed at the login has it."""
    return hashlib.sha256(b"\xff" + f"{user.id} by {author_id}".encode()).digest()  # 0xff is in no UTF-8


def _digests_of(user: User) -> tuple[bytes, bytes]:
    return _digest(user.username_key), _digest_within(user, user.id)


def _count_attempt(digest: bytes, key: str) -> User | None:
    """Count an attempt before the password is looked at: a hundred at once guess no more often than ten in a row.

    Return the user whose password it is about.
    """
    for _ in range(_MOST_TRIES):
        try:
            return _count(digest, key)
        except IntegrityError:  # another attempt inserted the row in the same moment
            continue
    raise TooManyRequests(1)


@transactional
def _count(digest: bytes, key: str) -> User | None:
    attempts = db.session.get(LoginAttempt, digest, with_for_update=True)
    now = clock.now()  # after the wait for the row
    if attempts is None:
        _drop_forgotten()
        attempts = LoginAttempt(username_digest=digest, failed_count=0, next_allowed_time=now)
        db.session.add(attempts)
    wait = attempts.next_allowed_time - now
    if wait > timedelta(0) and _delay(attempts.failed_count):
        raise TooManyRequests(wait.total_seconds())
    if wait < -_FORGOTTEN_AFTER:
        attempts.failed_count = 0
    attempts.failed_count += 1
    attempts.next_allowed_time = now + _delay(attempts.failed_count)
    user = _select(key)
    if user:
        db.session.expunge(user)  # what is verified now must not change when the row is looked at again
    return user


def _delay(failed_count: int) -> timedelta:
    """Return the wait after so many failures: none, then a second, doubling up to `FAILED_LOGIN_MAX_DELAY`."""
    beyond = failed_count - settings().FAILED_LOGIN_ALLOWANCE
    if beyond < 0:
        return timedelta(0)
    longest: timedelta = settings().FAILED_LOGIN_MAX_DELAY
    return min(timedelta(seconds=2 ** min(beyond, 20)), longest)


def _drop_forgotten() -> None:
    """Delete up to two rows that no longer count, for each one added: the table cannot grow without end."""
    digests = db.session.scalars(_forgotten().limit(2)).all()
    if digests:
        db.session.execute(delete(LoginAttempt).where(LoginAttempt.username_digest.in_(digests)))


def _forgotten() -> Select[bytes]:
    return select(LoginAttempt.username_digest).where(LoginAttempt.next_allowed_time < clock.now() - _FORGOTTEN_AFTER)


@transactional
def _purge_attempts() -> int:
    digests = db.session.scalars(_forgotten().limit(_PURGE_BATCH).with_for_update(skip_locked=True)).all()
    db.session.execute(delete(LoginAttempt).where(LoginAttempt.username_digest.in_(digests)))
    return len(digests)


@transactional
def _take_back_attempt(digest: bytes) -> None:
    attempts = db.session.get(LoginAttempt, digest, with_for_update=True)
    if attempts and attempts.failed_count > 0:
        attempts.failed_count -= 1
        attempts.next_allowed_time = clock.now()


@reading
def _find(key: str) -> User | None:
    return _select(key)


def _select(key: str) -> User | None:
    return db.session.scalars(select(User).where(User.username_key == key)).one_or_none()


@transactional
def _open(user_id: int, verified_hash: str, new_hash: str | None, device: Device) -> Login | None:
    """Open the session if the hash that was verified is still the user's."""
    user = db.session.get(User, user_id, with_for_update=True)
    if user is None or user.password_hash != verified_hash:
        return None
    if user.block_time:
        raise WrongCredentials
    if new_hash:
        user.password_hash = new_hash
    forget_attempts(user)
    opened = open_session(user_id, device)
    record("login", user_id, session=opened.session.id)
    return Login(user, opened.session, opened.ended)
