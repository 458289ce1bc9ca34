"""A cache in Redis or Valkey that may hang, vanish or come back at any moment without a wrong answer.

One failure opens the breaker: from then on no request waits for Redis. A background thread asks it four times a second.
When it answers, it is first told which entries were overtaken meanwhile. From then on it is told everything, but not
believed before a second has passed, in which every other process has told it as much; nor is ever believed what was
stored before that. A server that another one has replaced, or that was started again with what it had on disk, is
doubted in the same way.
"""

import functools
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import redis
from redis.cluster import RedisCluster
from redis.exceptions import NoScriptError

from apps.cache.redis_pool import HeldConnections
from apps.cache.redis_scripts import GET, PUT, Script
from apps.cache.redis_url import FAILURES, connect, times_of

logger = logging.getLogger(__name__)

_PROBE_INTERVAL = 0.25  # seconds
_SETTLING = 1.2  # seconds; longer than any process takes to notice that Redis is back, and than a lease
_LEASE_MILLISECONDS = 1000  # between a miss and its fill; later it is refused
_MOST_MISSED = 10_000  # beyond it the oldest lapses by its time to live

Stored = tuple[str, int, str]  # key, version, value; those of one call are of one user, and so on one node


class Lease(NamedTuple):
    """The right to fill what was missing, until a second has passed or somebody wrote, or a flush took it away."""

    mark: str  # that is left in Redis
    end: float  # by the monotonic clock

    @classmethod
    def begin(cls) -> Self:
        """Return a lease of a look that begins now."""
        return cls(f"0 {secrets.token_hex(8)} ", time.monotonic() + _LEASE_MILLISECONDS / 1000)


class RedisCache:
    """The entries of every process of the service, behind a breaker."""

    def __init__(self, url: str, timeout: float) -> None:
        self._connect = functools.partial(
            connect, url, timeout, self._meet, decode_responses=True, encoding_errors="replace", socket_read_size=4096
        )
        self._client: Any = None
        self._known_servers: set[str] = set()
        self.tell: Callable[[str], None] = lambda _happening: None  # of each "error", and when it is "open" or "closed"
        self._lock = threading.Lock()
        self._is_open = False
        self._outages = 0
        self._believed_since = 0.0  # entries stored earlier, by the server's clock, are misses; infinite: all are
        self._missed: dict[str, tuple[int, float]] = {}  # {key: (version, seconds to live)}

    def get_many(self, keys: Sequence[str], lease: Lease | None = None) -> list[tuple[int, str] | None]:
        """Return a (version, value) or None for each key, in one round trip; where nothing is, leave the lease."""
        found = self._guarded(self._ask, keys, lease) if self._is_believed else None
        if found is None:
            return [None] * len(keys)
        return [self._read(key, entry) for key, entry in zip(keys, found, strict=True)]

    def put(self, entries: Sequence[Stored], seconds: float) -> bool:
        """Store each unless a later version is there; what Redis misses it is told of when it is back."""
        if self._guarded(self._send, entries, seconds) is not None:
            return True
        return self._keep_missed(entries, seconds)

    def fill(self, entries: Sequence[Stored], seconds: float, lease: Lease) -> None:
        """Store what was only read, where the lease still is: without Redis it may be lost."""
        if self._is_believed and time.monotonic() < lease.end:
            self._guarded(self._send, entries, seconds, lease.mark)

    def forget(self, key: str) -> None:
        """Drop an entry."""
        self._guarded(lambda: self._reached().delete(key))

    def distrust(self, reason: str) -> None:
        """Believe nothing for a second, and then nothing that is there now or that was read before now."""
        with self._lock:
            outage = self._doubt()
        logger.warning("the cache is doubted", extra={"event": "cache.doubted", "cause": reason})
        _later(_SETTLING, lambda: self._believe(outage))

    def ping(self) -> bool:
        """Whether Redis answers now, and is believed."""
        return self._is_believed and self._guarded(self._ask, []) is not None

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
            client = self._connect()
            times_of(client)  # meets every primary; whoever comes later took the place of one
            is_cluster = isinstance(client, RedisCluster)  # which has a pool for each of its nodes
            self._client = client if is_cluster else HeldConnections(client.connection_pool)
        return self._client

    def _meet(self, connection: Any) -> None:
        """Doubt the server behind a new connection if it is another one, or another run, which may lack writes."""
        connection.send_command("INFO", "server", "replication")
        facts = connection.read_response().split()
        server = " ".join(fact for fact in facts if fact.startswith(("run_id:", "master_replid:")))
        if server not in self._known_servers:
            if self._client is not None:
                self.distrust("another server, or the same started again")
            if isinstance(self._client, HeldConnections):
                self._client.drop()  # so that nobody goes on to read from the one before
            self._known_servers.add(server)

    def _ask(self, keys: Sequence[str], lease: Lease | None = None) -> Any:
        return self._run(GET, keys, (lease.mark if lease else "", _LEASE_MILLISECONDS))

    def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        client = self._reached()
        command = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
        try:
            return client.execute_command(*command)
        except NoScriptError:  # a new server
            client.execute_command("SCRIPT LOAD", script.text)
            return client.execute_command(*command)

    def _now(self) -> float:
        """Return the server's time; of several the latest."""
        return max(times_of(self._reached()))

    def _send(self, entries: Sequence[Stored], seconds: float, mark: str = "") -> Any:
        keys: list[str] = []
        arguments: list[str | int] = [int(seconds * 1000), mark]
        for key, version, value in entries:
            keys.append(key)
            arguments += [version, value]
        try:
            return self._run(PUT, keys, arguments)
        except redis.OutOfMemoryError:
            self._reached().delete(*keys)  # which a full Redis still does; and nobody fills it again
            raise

    def _guarded(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `call` returns, or None when Redis is, or just went, out of reach."""
        if self._is_open:
            return None
        try:
            return call(*arguments)
        except FAILURES as error:
            self._open(error)
            return None

    def _open(self, error: Exception) -> None:
        self.tell("error")
        with self._lock:
            if self._is_open:
                return
            self._is_open = True
            self._doubt()
            self.tell("open")
        logger.warning(
            "cache out of reach, serving from the database", extra={"event": "cache.open", "cause": str(error)}
        )
        self._probe_later()

    def _doubt(self) -> int:
        """Believe nothing; return the number of this doubt, which ends no other one."""
        self._outages += 1
        self._believed_since = math.inf
        return self._outages

    def _keep_missed(self, entries: Sequence[Stored], seconds: float) -> bool:
        with self._lock:
            if self._is_open:
                for key, version, _ in entries:
                    self._missed[key] = max(self._missed.get(key, (0, 0.0)), (version, seconds))
                while len(self._missed) > _MOST_MISSED:
                    self._missed.pop(next(iter(self._missed)))
                return False
        return self.put(entries, seconds)  # it came back between the failure and the lock

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
                    self._send([(key, version, "")], lifetime)
            except redis.OutOfMemoryError:
                self._reached().delete(*untold)
                raise
            told |= untold


def _later(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True  # the process need not wait for it to end
    timer.start()
