"""A cache in Redis or Valkey that may hang, vanish or come back at any moment without a wrong answer.

One failure opens the breaker: from then on no request waits for Redis. A background thread asks it once a second.
When it answers, it is first told which entries were overtaken meanwhile, and what was stored before that moment is not
believed, because another process may have failed to replace it.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

logger = logging.getLogger(__name__)

_PROBE_INTERVAL = 1.0  # seconds
_MOST_MISSED = 10_000  # beyond it the oldest lapses by its time to live

# KEYS[1]; ARGV: version, value, milliseconds. An entry is "<version> <time stored, by the server's clock> <value>".
# One without a value says only that nothing older is true. What is no text of ours is overwritten.
_PUT = """
local known = redis.pcall('GET', KEYS[1])
local known_version = type(known) == 'string' and tonumber(string.match(known, '^(%d+) ')) or 0
if known_version > tonumber(ARGV[1]) then return 0 end
local now = redis.call('TIME')
local entry = string.format('%s %d.%06d %s', ARGV[1], now[1], now[2], ARGV[2])
redis.call('SET', KEYS[1], entry, 'PX', ARGV[3])
return 1
"""


def is_redis_url(url: str) -> bool:
    """Whether `url` can be read."""
    try:
        parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:
        return False
    return True


def no_retries(timeout: float) -> dict[str, Any]:
    """Return the options of a client whose every call is bounded by `timeout` seconds; the defaults wait a minute."""
    return {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": Retry(NoBackoff(), 0)}


class RedisCache:
    """The entries of every process of the service, behind a breaker."""

    def __init__(self, url: str, timeout: float) -> None:
        self._redis = redis.Redis.from_url(url, decode_responses=True, encoding_errors="replace", **no_retries(timeout))
        self._put = self._redis.register_script(_PUT)
        self._lock = threading.Lock()
        self._is_open = False
        self._believed_since = 0.0  # entries stored earlier, by the server's clock, are misses
        self._missed: dict[str, tuple[int, float]] = {}  # {key: (version, seconds to live)}

    def get_many(self, keys: Sequence[str]) -> list[tuple[int, str] | None]:
        """Return a (version, value) or None for each key, in one round trip."""
        found = self._guarded(lambda: self._redis.mget(keys))
        if found is None:
            return [None] * len(keys)
        return [self._read(key, entry) for key, entry in zip(keys, found, strict=True)]

    def put(self, key: str, version: int, value: str, seconds: float) -> None:
        """Store unless a later version is there; what Redis misses it is told of when it is back."""
        if self._guarded(lambda: self._send(key, version, value, seconds)) is None:
            self._keep_missed(key, version, value, seconds)

    def fill(self, key: str, version: int, value: str, seconds: float) -> None:
        """Store what was only read, which overtakes nothing: without Redis it may be lost."""
        if not self._is_open:
            self.put(key, version, value, seconds)

    def forget(self, key: str) -> None:
        """Drop an entry."""
        self._guarded(lambda: self._redis.delete(key))

    def ping(self) -> bool:
        """Whether Redis answers now."""
        return not self._is_open and self._guarded(self._redis.ping) is not None

    def _read(self, key: str, entry: str | None) -> tuple[int, str] | None:
        if entry is None:
            return None
        try:
            version, stored_at, value = entry.split(" ", 2)
            is_believed = value and float(stored_at) >= self._believed_since
            return (int(version), value) if is_believed else None
        except ValueError:  # not ours: corrupt, or another program's
            self.forget(key)
            return None

    def _send(self, key: str, version: int, value: str, seconds: float) -> Any:
        return self._put(keys=[key], args=[version, value, int(seconds * 1000)])

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """Return what `call` returns, or None when Redis is, or just went, out of reach."""
        if self._is_open:
            return None
        try:
            return call()
        except redis.RedisError as error:
            self._open(error)
            return None

    def _open(self, error: Exception) -> None:
        with self._lock:
            if self._is_open:
                return
            self._is_open = True
        logger.warning(
            "cache out of reach, serving from the database", extra={"event": "cache.open", "cause": str(error)}
        )
        self._probe_later()

    def _keep_missed(self, key: str, version: int, value: str, seconds: float) -> None:
        with self._lock:
            if self._is_open:
                self._missed[key] = max(self._missed.get(key, (0, 0.0)), (version, seconds))
                if len(self._missed) > _MOST_MISSED:
                    self._missed.pop(next(iter(self._missed)))
                return
        self.put(key, version, value, seconds)  # it came back between the failure and the lock

    def _probe_later(self) -> None:
        timer = threading.Timer(_PROBE_INTERVAL, self._probe)
        timer.daemon = True
        timer.start()

    def _probe(self) -> None:
        try:
            self._catch_up()
        except redis.RedisError:
            return
        finally:
            if self._is_open:
                self._probe_later()
        logger.warning("cache in reach again", extra={"event": "cache.closed"})

    def _catch_up(self) -> None:
        """Tell Redis what it missed, then close the breaker; requests do not wait for it.

        Not the values: by now another process may have written later ones, which Redis may have missed as well.
        """
        seconds, microseconds = self._redis.time()
        told: dict[str, tuple[int, float]] = {}
        while True:
            with self._lock:  # nothing is missed between the last look and the closing
                untold = {key: missed for key, missed in self._missed.items() if told.get(key) != missed}
                if not untold:
                    self._missed.clear()
                    self._believed_since = seconds + microseconds / 1e6
                    self._is_open = False
                    return
            try:
                for key, (version, lifetime) in untold.items():
                    self._send(key, version, "", lifetime)
            except redis.OutOfMemoryError:
                self._redis.delete(*untold)  # which a full Redis still does
                raise
            told |= untold
