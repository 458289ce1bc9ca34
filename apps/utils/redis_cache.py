"""A cache in Redis or Valkey that may hang, vanish or come back at any moment without a wrong answer.

One failure opens the breaker: from then on no request waits for Redis. A background thread asks it four times a second.
When it answers, it is first told which entries were overtaken meanwhile. From then on it is told everything, but not
believed before a second has passed, in which every other process has told it as much; nor is ever believed what was
stored before that.
"""

import functools
import logging
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.exceptions import NoScriptError

from apps.utils.redis_url import FAILURES, connect

logger = logging.getLogger(__name__)

_PROBE_INTERVAL = 0.25  # seconds
_SETTLING = 1.0  # seconds; longer than any process takes to notice that Redis is back
_MOST_MISSED = 10_000  # beyond it the oldest lapses by its time to live

# A Redis that takes no writes (read-only, full, without its disk) refuses a script with a first line such as this one:
# what another process changed would be missing there, so nothing that it holds may be believed.
_GET = """#!lua
return #KEYS > 0 and redis.call('MGET', unpack(KEYS)) or {}
"""

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


class RedisCache:
    """The entries of every process of the service, behind a breaker."""

    def __init__(self, url: str, timeout: float) -> None:
        self._connect = functools.partial(connect, url, timeout, decode_responses=True, encoding_errors="replace")
        self._client: Any = None
        self.tell: Callable[[str], None] = lambda _happening: None  # of each "error", and when it is "open" or "closed"
        self._lock = threading.Lock()
        self._is_open = False
        self._outages = 0
        self._believed_since = 0.0  # entries stored earlier, by the server's clock, are misses; infinite: all are
        self._missed: dict[str, tuple[int, float]] = {}  # {key: (version, seconds to live)}

    def get_many(self, keys: Sequence[str]) -> list[tuple[int, str] | None]:
        """Return a (version, value) or None for each key, in one round trip."""
        found = self._guarded(lambda: self._ask(keys)) if self._is_believed else None
        if found is None:
            return [None] * len(keys)
        return [self._read(key, entry) for key, entry in zip(keys, found, strict=True)]

    def put(self, key: str, version: int, value: str, seconds: float) -> None:
        """Store unless a later version is there; what Redis misses it is told of when it is back."""
        if self._guarded(lambda: self._send_twice(key, version, value, seconds)) is None:
            self._keep_missed(key, version, value, seconds)

    def fill(self, key: str, version: int, value: str, seconds: float) -> None:
        """Store what was only read, which overtakes nothing: without Redis it may be lost."""
        if self._is_believed:
            self.put(key, version, value, seconds)

    def forget(self, key: str) -> None:
        """Drop an entry."""
        self._guarded(lambda: self._reached().delete(key))

    def ping(self) -> bool:
        """Whether Redis answers now, and is believed."""
        return self._is_believed and self._guarded(lambda: self._ask([])) is not None

    @property
    def _is_believed(self) -> bool:
        return self._believed_since < math.inf

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

    def _reached(self) -> Any:
        """Return the client, made when it is first needed: a cluster that is away keeps no start back."""
        if self._client is None:
            self._client = self._connect()
            self._get = self._client.register_script(_GET)
            self._put = self._client.register_script(_PUT)
        return self._client

    def _ask(self, keys: Sequence[str]) -> Any:
        client = self._reached()
        try:
            return client.execute_command("EVALSHA", self._get.sha, len(keys), *keys)
        except NoScriptError:  # a new server
            return self._get(keys=keys, client=client)

    def _now(self) -> float:
        """Return the server's time; of several the latest."""
        found = self._reached().time()
        times: list[tuple[int, int]] = list(found.values()) if isinstance(found, dict) else [found]
        return max(seconds + microseconds / 1e6 for seconds, microseconds in times)

    def _send(self, key: str, version: int, value: str, seconds: float) -> Any:
        client = self._reached()
        return self._put(keys=[key], args=[version, value, int(seconds * 1000)], client=client)

    def _send_twice(self, key: str, version: int, value: str, seconds: float) -> Any:
        """Send it again where the first answer did not come: until Redis has it, others believe what it replaces."""
        try:
            return self._send(key, version, value, seconds)
        except redis.OutOfMemoryError:
            self._reached().delete(key)  # which a full Redis still does; and nobody fills it again
            raise
        except (redis.ConnectionError, redis.TimeoutError):
            return self._send(key, version, value, seconds)

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """Return what `call` returns, or None when Redis is, or just went, out of reach."""
        if self._is_open:
            return None
        try:
            return call()
        except FAILURES as error:
            self._open(error)
            return None

    def _open(self, error: Exception) -> None:
        self.tell("error")
        with self._lock:
            if self._is_open:
                return
            self._is_open = True
            self._outages += 1
            self._believed_since = math.inf
            self.tell("open")
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
        _later(_PROBE_INTERVAL, self._probe)

    def _probe(self) -> None:
        outage = self._outages
        try:
            self._catch_up()
        except FAILURES:
            return
        finally:
            if self._is_open:
                self._probe_later()
        _later(_SETTLING, lambda: self._believe(outage))
        logger.warning("cache in reach again", extra={"event": "cache.closed"})

    def _believe(self, outage: int) -> None:
        """Believe what is stored from now on, unless another outage began meanwhile."""
        now = self._guarded(self._now)
        with self._lock:
            if now and outage == self._outages:
                self._believed_since = now
                self.tell("closed")

    def _catch_up(self) -> None:
        """Tell Redis what it missed, then close the breaker; requests do not wait for it.

        Not the values: by now another process may have written later ones, which Redis may have missed as well.
        """
        self._ask([])
        told: dict[str, tuple[int, float]] = {}
        while True:
            with self._lock:  # nothing is missed between the last look and the closing
                untold = {key: missed for key, missed in self._missed.items() if told.get(key) != missed}
                if not untold:
                    self._missed.clear()
                    self._is_open = False
                    return
            try:
                for key, (version, lifetime) in untold.items():
                    self._send(key, version, "", lifetime)
            except redis.OutOfMemoryError:
                self._reached().delete(*untold)  # which a full Redis still does
                raise
            told |= untold


def _later(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True  # the process need not wait for it to end
    timer.start()
