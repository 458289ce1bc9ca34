"""Limits on requests, counted by Flask-Limiter in Redis or, without it, in this process."""

from collections.abc import Callable

from flask import current_app
from flask_limiter import RateLimitExceeded
from limits.errors import StorageError

from apps.errors import TooManyRequests
from apps.extensions import limiter
from apps.utils import clock


def make_check(name: str, setting: str | None, key: Callable[[], str]) -> Callable[[], None]:
    """Return a function that counts a request against the limit in `setting`, and raises when there is none left."""

    def count() -> None:
        """Do nothing: Flask-Limiter counts before it is called."""

    if setting is None:
        return count
    count.__qualname__ = name  # by which Flask-Limiter keeps limits apart
    # Counted under the setting's name: under the route's, an address would be one with a username that reads like it.
    limited = limiter.shared_limit(lambda: current_app.config[setting], scope=setting, key_func=key)(count)

    def check() -> None:
        try:
            _count_without_redis_too(limited)
        except RateLimitExceeded as error:
            raise TooManyRequests(_seconds_to_wait()) from error

    return check


def _count_without_redis_too(count: Callable[[], None]) -> None:
    """Count again where Redis went away in between.

    Flask-Limiter then falls back to memory; but of the requests that meet the failure at once it fails all but one.
    """
    try:
        count()
    except StorageError:
        count()


def _seconds_to_wait() -> float:
    try:
        breached = limiter.current_limit
        return breached.reset_at - clock.now().timestamp() if breached else 0
    except StorageError:
        return 0
