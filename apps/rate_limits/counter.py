"""Request limits: sliding windows, counted in Redis by all processes together, or without it in this process.

While Redis is away each process counts for itself and asks once a second whether it is back. Refreshes are always
counted so, because a round trip would double their cost. What a process counts for itself is limited to its share: the
limit divided by `PROCESSES`. Decision 0010 tells why this replaces Flask-Limiter.
"""

import functools
import logging
import time
from functools import lru_cache
from math import floor

from flask import Flask, current_app
from limits import RateLimitItem, parse_many
from limits.errors import StorageError
from limits.storage import storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter

from apps.cache.probe import Probe
from apps.cache.redis_url import FAILURES, no_retries, storage_url
from apps.config import settings
from apps.errors import TooManyRequests
from apps.rate_limits.memory import BoundedMemoryStorage

logger = logging.getLogger(__name__)

COUNTED_BY_PROCESS = frozenset({"REFRESH_LIMIT", "REFRESH_ACCOUNT_LIMIT"})
_RETRY_INTERVAL = 1.0  # seconds between two tries to reach a Redis that failed


def init_app(app: Flask) -> None:
    """Give `app` its counters."""
    app.extensions["limits"] = Limits(settings(app).REDIS_URL, settings(app).REDIS_TIMEOUT, settings(app).PROCESSES)


def count_request(setting: str, who: str) -> None:
    """Count a request of `who` against the limit in `setting`. Raises `TooManyRequests` when it is exhausted."""
    limits: Limits = current_app.extensions["limits"]
    config = settings()
    for item in _parse(getattr(config, setting)):
        seconds = limits.hit(item, setting, config.CACHE_PREFIX, who)
        if seconds:
            raise TooManyRequests(seconds)


class Limits:
    """The counters that this process can reach."""

    def __init__(self, redis_url: str, redis_timeout: float, processes: int) -> None:
        """Count in Redis, or only here if `redis_url` is empty.

        A call takes at most half of `redis_timeout` seconds, because a request may count twice. `processes` is the
        number of processes that serve.
        """
        self._processes = processes
        self._here = SlidingWindowCounterRateLimiter(BoundedMemoryStorage())
        self._everywhere = None if redis_url else self._here
        self._connect = functools.partial(_in_redis, redis_url, redis_timeout / 2)
        self._breaker = Probe(_RETRY_INTERVAL)

    def hit(self, item: RateLimitItem, setting: str, prefix: str, who: str) -> float:
        """Return 0, or the seconds until one more request is allowed."""
        # By the setting and not the route: else an address and a username that read alike would share a key.
        key = f"{prefix}/{setting}/{who}"
        if setting not in COUNTED_BY_PROCESS and self._breaker.may_try():
            try:
                self._everywhere = self._everywhere or self._connect()  # late: a cluster may be away at the start
                seconds = _hit(self._everywhere, item, key)
            except (StorageError, *FAILURES) as error:
                self._note_failure(error)
            else:
                self._note_success()
                return seconds
        return _hit(self._here, _share(item, self._processes), key)

    def _note_failure(self, error: Exception) -> None:
        if self._breaker.open():
            cause = str(getattr(error, "storage_error", error))
            logger.warning(
                "rate limits: Redis failed, so each process counts for itself",
                extra={"event": "limits.local", "cause": cause},
            )

    def _note_success(self) -> None:
        if self._breaker.close():
            logger.warning("rate limits: Redis is back, all processes count together", extra={"event": "limits.shared"})


def _in_redis(url: str, timeout: float) -> SlidingWindowCounterRateLimiter:
    options = no_retries(timeout) | ({"use_replicas": False} if "+sentinel:" in url else {})
    storage = storage_from_string(storage_url(url), wrap_exceptions=True, **options)
    return SlidingWindowCounterRateLimiter(storage)


def _hit(limiter: SlidingWindowCounterRateLimiter, item: RateLimitItem, key: str) -> float:
    if limiter.hit(item, key):
        return 0
    # + 1: at the moment that the window names, the count is still at the limit.
    return floor(max(0.0, limiter.get_window_stats(item, key).reset_time - time.time())) + 1


@lru_cache(maxsize=64)
def _share(item: RateLimitItem, processes: int) -> RateLimitItem:
    """Return the share of one process: at least one request."""
    return type(item)(max(1, item.amount // processes), item.multiples, item.namespace)


@lru_cache(maxsize=64)
def _parse(text: str) -> list[RateLimitItem]:
    return parse_many(text)
