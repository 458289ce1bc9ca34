"""Request limits: sliding windows, shared by all processes in Redis, or local to a process.

While Redis is unavailable, each process counts locally and tries Redis again once a second. Refreshes are always
counted locally, because a round trip would double their cost. A local count is limited to the process's share: the
limit divided by `PROCESSES`. Decision 0010 explains why this replaces Flask-Limiter.
"""

import functools
import logging
import time
from collections.abc import Callable
from functools import lru_cache
from math import floor
from typing import Any

from flask import Flask, current_app
from limits import RateLimitItem, parse_many
from limits.errors import StorageError
from limits.storage import storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter

from apps.cache.probe import Probe
from apps.cache.redis_client import FAILURES, no_retries, storage_url
from apps.config import settings
from apps.errors import TooManyRequests
from apps.rate_limits.memory import BoundedMemoryStorage

logger = logging.getLogger(__name__)

COUNTED_BY_PROCESS = frozenset({"REFRESH_LIMIT", "REFRESH_ACCOUNT_LIMIT"})
_RETRY_INTERVAL = 1.0  # seconds between two tries to reach Redis after a failure

# Runs before a script of the library and removes values that are not counts. The script would fail on them, or read
# 3 MB, and every process would count locally after each request of one subject.
_REMOVE_FOREIGN = b"""
local is_foreign = false
for _, key in ipairs(KEYS) do
  local count = redis.pcall('GETRANGE', key, 0, 15)
  local is_count = type(count) == 'string' and #count <= 15 and (count == '0' or string.find(count, '^[1-9]%d*$'))
  local expiry = redis.call('PTTL', key)  -- -2: no such key; -1: none, so it would be counted on for ever
  if expiry == -1 or (expiry ~= -2 and not is_count) then
    redis.call('UNLINK', key)
    is_foreign = true
  end
end
if is_foreign then return redis.error_reply('FOREIGN not a count') end
"""


def init_app(app: Flask) -> None:
    """Give `app` its counters."""
    app.extensions["limits"] = Limits(settings(app).REDIS_URL, settings(app).REDIS_TIMEOUT, settings(app).PROCESSES)


def count_request(setting: str, subject: str) -> None:
    """Count a request of an address, account or session against the limit in `setting`. Raises `TooManyRequests`."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    limits: Limits = app.extensions["limits"]
    config = settings(app)
    for item in _parse(getattr(config, setting)):
        seconds = limits.hit(item, setting, config.CACHE_PREFIX, subject)
        if seconds:
            raise TooManyRequests(seconds)


class Limits:
    """The shared counters in Redis, and the local ones of this process."""

    def __init__(self, redis_url: str, redis_timeout: float, processes: int) -> None:
        """Count in Redis, or only in this process if `redis_url` is empty.

        A call waits for Redis at most half of `redis_timeout` seconds, because a request may count twice. `processes`
        is the number of processes of the service.
        """
        self._processes = processes
        self._local = SlidingWindowCounterRateLimiter(BoundedMemoryStorage())
        self._shared = None if redis_url else self._local
        self._connect = functools.partial(_in_redis, redis_url, redis_timeout / 2)
        self._breaker = Probe(_RETRY_INTERVAL)
        self.on_removed: Callable[[], None] = lambda: None  # called when a value of another program was removed

    def hit(self, item: RateLimitItem, setting: str, prefix: str, subject: str) -> float:
        """Count a request and return 0; or, if the limit is reached, return the seconds until the next is allowed."""
        # The setting keeps an address and a username with the same text apart; the route would not.
        key = f"{prefix}/{setting}/{subject}"
        if setting not in COUNTED_BY_PROCESS and self._breaker.may_try():
            try:
                self._shared = self._shared or self._connect()  # late: a cluster may be down at start
                seconds = self._hit_shared(self._shared, item, key)
            except (StorageError, *FAILURES) as error:
                self._note_failure(error)
            else:
                self._note_success()
                return seconds
        return _hit(self._local, _share(item, self._processes), key)

    def _hit_shared(self, limiter: SlidingWindowCounterRateLimiter, item: RateLimitItem, key: str) -> float:
        try:
            return _hit(limiter, item, key)
        except StorageError as error:
            if not str(error.storage_error).startswith("FOREIGN "):
                raise
            self.on_removed()
            extra = {"event": "limits.removed", "key": key}
            logger.warning("rate limit counter removed: not a count; another program wrote it", extra=extra)
            return _hit(limiter, item, key)

    def _note_failure(self, error: Exception) -> None:
        if self._breaker.open():
            cause = str(getattr(error, "storage_error", error))
            logger.warning(
                "rate limits: Redis unavailable, each process counts its share of a limit locally",
                extra={"event": "limits.local", "cause": cause},
            )

    def _note_success(self) -> None:
        if self._breaker.close():
            logger.warning("rate limits: Redis is back, processes share their counts", extra={"event": "limits.shared"})


def _in_redis(url: str, timeout: float) -> SlidingWindowCounterRateLimiter:
    options = no_retries(timeout) | ({"use_replicas": False} if "+sentinel:" in url else {})
    storage: Any = storage_from_string(storage_url(url), wrap_exceptions=True, **options)
    register = storage.get_connection().register_script
    storage.lua_sliding_window = register(_REMOVE_FOREIGN + storage.SCRIPT_SLIDING_WINDOW)
    storage.lua_acquire_sliding_window = register(_REMOVE_FOREIGN + storage.SCRIPT_ACQUIRE_SLIDING_WINDOW)
    return SlidingWindowCounterRateLimiter(storage)


def _hit(limiter: SlidingWindowCounterRateLimiter, item: RateLimitItem, key: str) -> float:
    if limiter.hit(item, key):
        return 0
    # + 1: at `reset_time` itself, the count is still at the limit.
    return floor(max(0.0, limiter.get_window_stats(item, key).reset_time - time.time())) + 1


@lru_cache(maxsize=64)
def _share(item: RateLimitItem, processes: int) -> RateLimitItem:
    """Return the share of one process, at least one request."""
    return type(item)(max(1, item.amount // processes), item.multiples, item.namespace)


@lru_cache(maxsize=64)
def _parse(text: str) -> list[RateLimitItem]:
    return parse_many(text)
