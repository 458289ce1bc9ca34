"""Limits on requests: sliding windows, counted in Redis by all processes together or, without it, in this one.

Without Redis each process counts for itself, and asks once a second whether it is back. The refreshes are counted so
always: they are many, and a round trip would cost as much as all the rest of one. What a process counts for itself, it
allows its share of: the limit over `PROCESSES`.
"""

import functools
import logging
import threading
import time
from functools import lru_cache
from math import floor

from flask import Flask, current_app
from limits import RateLimitItem, parse_many
from limits.errors import StorageError
from limits.storage import storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter

from apps.cache.redis_url import FAILURES, no_retries, storage_url
from apps.config import settings
from apps.errors import TooManyRequests
from apps.rate_limits.memory import BoundedMemoryStorage

logger = logging.getLogger(__name__)

COUNTED_BY_PROCESS = frozenset({"REFRESH_LIMIT", "REFRESH_ACCOUNT_LIMIT"})
_ASK_AGAIN = 1.0  # seconds after which a Redis that failed is asked again


def init_app(app: Flask) -> None:
    """Let `app` count."""
    app.extensions["limits"] = Limits(settings(app).REDIS_URL, settings(app).REDIS_TIMEOUT, settings(app).PROCESSES)


def count_request(setting: str, who: str) -> None:
    """Count a request of `who` against the limit in `setting`. Raises `TooManyRequests` when there is none left."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    limits: Limits = app.extensions["limits"]
    for item in _parse(getattr(settings(app), setting)):
        seconds = limits.hit(item, setting, settings(app).CACHE_PREFIX, who)
        if seconds:
            raise TooManyRequests(seconds)


class Limits:
    """The counts that this process can see."""

    def __init__(self, redis_url: str, redis_timeout: float, processes: int) -> None:
        """Count in Redis unless `redis_url` is empty; a call to it may take half of `redis_timeout` seconds.

        Half, because a request may count twice. `processes` is how many count beside each other.
        """
        self._processes = processes
        self._here = SlidingWindowCounterRateLimiter(BoundedMemoryStorage())
        self._everywhere = None if redis_url else self._here
        self._connect = functools.partial(_in_redis, redis_url, redis_timeout / 2)
        self._lock = threading.Lock()
        self._asks_again_at = 0.0  # by the monotonic clock; 0 while Redis answers

    def hit(self, item: RateLimitItem, setting: str, prefix: str, who: str) -> float:
        """Return 0, or the seconds after which there is room for one more."""
        # Under the setting's name: under the route's, an address would be one with a username that reads like it.
        key = f"{prefix}/{setting}/{who}"
        if setting not in COUNTED_BY_PROCESS and self._may_ask():
            try:
                # Not before: a cluster that is away keeps no start back.
                self._everywhere = self._everywhere or self._connect()
                seconds = _hit(self._everywhere, item, key)
            except (StorageError, *FAILURES) as error:
                self._note_failure(error)
            else:
                self._note_success()
                return seconds
        return _hit(self._here, _share(item, self._processes), key)

    def _may_ask(self) -> bool:
        """Whether Redis answers or, of the requests that find it gone, this is the one to ask again."""
        if not self._asks_again_at:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self._asks_again_at:
                return False
            self._asks_again_at = now + _ASK_AGAIN
        return True

    def _note_failure(self, error: Exception) -> None:
        if not self._asks_again_at:
            cause = str(getattr(error, "storage_error", error))
            logger.warning("each process counts for itself", extra={"event": "limits.local", "cause": cause})
        self._asks_again_at = time.monotonic() + _ASK_AGAIN

    def _note_success(self) -> None:
        if self._asks_again_at:
            self._asks_again_at = 0.0
            logger.warning("all processes count together again", extra={"event": "limits.shared"})


def _in_redis(url: str, timeout: float) -> SlidingWindowCounterRateLimiter:
    options = no_retries(timeout) | ({"use_replicas": False} if "+sentinel:" in url else {})
    storage = storage_from_string(storage_url(url), wrap_exceptions=True, **options)
    return SlidingWindowCounterRateLimiter(storage)


def _hit(limiter: SlidingWindowCounterRateLimiter, item: RateLimitItem, key: str) -> float:
    if limiter.hit(item, key):
        return 0
    # At the very moment that it names, the count is still at the limit.
    return floor(max(0.0, limiter.get_window_stats(item, key).reset_time - time.time())) + 1


@lru_cache(maxsize=64)
def _share(item: RateLimitItem, processes: int) -> RateLimitItem:
    """Return what one of so many processes allows: at least one request."""
    return type(item)(max(1, item.amount // processes), item.multiples, item.namespace)


@lru_cache(maxsize=64)
def _parse(text: str) -> list[RateLimitItem]:
    return parse_many(text)
