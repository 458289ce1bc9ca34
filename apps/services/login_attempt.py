"""Counters of wrong passwords, in the database, and the delay that they impose."""

import hashlib
from datetime import timedelta

from sqlalchemy import Select, delete, select, update
from sqlalchemy.exc import IntegrityError

from apps.config import settings
from apps.database.transaction import transactional
from apps.errors import TooManyRequests
from apps.extensions import db
from apps.models import LoginAttempt, User
from apps.utils import clock

_FORGOTTEN_AFTER = timedelta(days=1)
_PURGE_BATCH = 1000
_MAX_TRIES = 5  # to count one attempt among many others on the same name


def login_digest(username_key: str) -> bytes:
    """Return the key of the counter for logins to a username, whether or not such a user exists."""
    return hashlib.sha256(username_key.encode()).digest()


def session_digest(user: User, requester_id: int) -> bytes:
    """Return the key of the counter for guesses that `requester_id` makes from a session. No username has this key."""
    return hashlib.sha256(b"\xff" + f"{user.id} by {requester_id}".encode()).digest()  # no UTF-8 holds 0xff


def count_attempt(digest: bytes, username_key: str) -> User | None:
    """Count an attempt before its password is checked, and return the user with `username_key`.

    Counting first makes a hundred parallel guesses as slow as a hundred in a row. Raises `TooManyRequests` while the
    account is delayed.
    """
    for _ in range(_MAX_TRIES):
        try:
            return _count(digest, username_key)
        except IntegrityError:  # another attempt inserted the row at the same moment
            continue
    raise TooManyRequests(1)


@transactional
def refund_attempt(digest: bytes) -> None:
    """Take back the last attempt, which told the client nothing."""
    attempts = db.session.get(LoginAttempt, digest, with_for_update=True)
    if attempts and attempts.failed_count > 0:
        attempts.failed_count -= 1
        attempts.next_allowed_time = clock.now()


def reset_attempts(user: User) -> None:
    """Reset the counters after a right password, in the caller's transaction."""
    # Not deleted: parallel logins would race to insert the row again.
    counted = update(LoginAttempt).where(LoginAttempt.username_digest.in_(_digests_of(user)))
    db.session.execute(counted.values(failed_count=0))


def delete_attempts(user: User) -> None:
    """Delete the attempt counters of a deleted user, in the caller's transaction."""
    db.session.execute(delete(LoginAttempt).where(LoginAttempt.username_digest.in_(_digests_of(user))))


def purge_attempts() -> int:
    """Delete the counters that have expired and return their number. Safe to run beside the service."""
    total = 0
    while deleted := _purge():
        total += deleted
    return total


def _digests_of(user: User) -> tuple[bytes, bytes]:
    return login_digest(user.username_key), session_digest(user, user.id)


@transactional
def _count(digest: bytes, username_key: str) -> User | None:
    attempts = db.session.get(LoginAttempt, digest, with_for_update=True)
    now = clock.now()  # after the wait for the row
    if attempts is None:
        _delete_two_expired()
        attempts = LoginAttempt(username_digest=digest, failed_count=0, next_allowed_time=now)
        db.session.add(attempts)
    wait = attempts.next_allowed_time - now
    if wait > timedelta(0) and _delay(attempts.failed_count):
        raise TooManyRequests(wait.total_seconds())
    if wait < -_FORGOTTEN_AFTER:
        attempts.failed_count = 0
    attempts.failed_count += 1
    attempts.next_allowed_time = now + _delay(attempts.failed_count)
    user = db.session.scalars(select(User).where(User.username_key == username_key)).one_or_none()
    if user:
        db.session.expunge(user)  # a later refresh of the row must not change what is being verified
    return user


def _delay(failed_count: int) -> timedelta:
    """Return the wait after so many failures: none, then one second, doubling up to `FAILED_LOGIN_MAX_DELAY`."""
    beyond = failed_count - settings().FAILED_LOGIN_ALLOWANCE
    if beyond < 0:
        return timedelta(0)
    return min(timedelta(seconds=2 ** min(beyond, 20)), settings().FAILED_LOGIN_MAX_DELAY)


def _delete_two_expired() -> None:
    """Delete up to two expired rows for each row added, so that the table cannot grow without bound."""
    digests = db.session.scalars(_expired().limit(2)).all()
    if digests:
        db.session.execute(delete(LoginAttempt).where(LoginAttempt.username_digest.in_(digests)))


def _expired() -> Select[bytes]:
    return select(LoginAttempt.username_digest).where(LoginAttempt.next_allowed_time < clock.now() - _FORGOTTEN_AFTER)


@transactional
def _purge() -> int:
    digests = db.session.scalars(_expired().limit(_PURGE_BATCH).with_for_update(skip_locked=True)).all()
    db.session.execute(delete(LoginAttempt).where(LoginAttempt.username_digest.in_(digests)))
    return len(digests)
