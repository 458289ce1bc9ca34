"""A cache in Redis or Valkey that may hang, vanish or come back at any moment without a wrong answer.

States: closed, open, settling. One failure opens the breaker, and then no request waits for Redis. A background thread
pings it four times a second. When Redis answers, the entries that became outdated meanwhile are invalidated first, and
the breaker closes for writes. Reads stay off while the cache settles, for a second in which every other process does
the same; then only entries stored after that are used. A server that replaced another, or that was restarted with the
data on its disk, is treated in the same way. docs/cache.md draws the states.
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

from apps.cache.redis_client import FAILURES, connect, times_of
from apps.cache.redis_pool import HeldConnections
from apps.cache.redis_scripts import GET, PUT, Script

logger = logging.getLogger(__name__)

_PROBE_INTERVAL = 0.25  # seconds
_SETTLING = 1.2  # seconds; longer than any process takes to notice that Redis is back, and longer than a lease
_LEASE_MILLISECONDS = 1000  # from a miss to its fill; a later fill is refused
_MAX_PENDING = 10_000  # beyond it the oldest pending invalidation is dropped, and the entry expires by its TTL

Stored = tuple[str, int, str]  # key, version, value; those of one call are of one user, and so on one node


class Lease(NamedTuple):
    """A mark that a reader leaves in Redis on a miss, and must still find there to store the row that it read.

    It lapses after a second, when the entry is written or invalidated, or when Redis is flushed. A fill with a lapsed
    lease stores nothing, so a slow reader cannot store an old row.
    """

    mark: str  # left in Redis
    end: float  # by the monotonic clock

    @classmethod
    def begin(cls) -> Self:
        """Return a lease for a look-up that starts now."""
        return cls(f"0 {secrets.token_hex(8)} ", time.monotonic() + _LEASE_MILLISECONDS / 1000)


class RedisCache:
    """Reads and writes the entries that all processes share. No Redis error reaches the caller.

    While the circuit breaker is open, every read is a miss, and `put` returns False. Then the caller must bump the
    cache epoch, so that other processes stop using the old entry.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.on_lookup: Callable[[int, int], None] | None = None  # called with the numbers of hits and of misses
        self.on_event: Callable[[str], None] = lambda _event: None  # "error", "open", "trusted", "removed"
        self._connect = functools.partial(
            connect,
            url,
            timeout,
            self._on_connect,
            decode_responses=True,
            encoding_errors="replace",
            socket_read_size=4096,
        )
        self._client: Any = None
        self._known_servers: set[str] = set()
        self._lock = threading.Lock()
        self._is_open = False
        self._trust_losses = 0
        self._trusted_since = 0.0  # entries stored before, by the server's clock, are misses; infinite: all are
        self._pending_invalidations: dict[str, tuple[int, float]] = {}  # {key: (version, seconds to live)}

    def get_many(self, keys: Sequence[str], lease: Lease | None = None) -> list[tuple[int, str] | None]:
        """Return a (version, value) or None for each key, in one round trip; leave the lease where nothing is."""
        values = self._guarded(self._get, keys, lease) if self._is_trusted else None
        if values is None:
            found: list[tuple[int, str] | None] = [None] * len(keys)
        else:
            self._note_removed([key for key, value in zip(keys, values, strict=True) if isinstance(value, int)])
            found = [self._parse_entry(key, value) for key, value in zip(keys, values, strict=True)]
        if self.on_lookup:
            self.on_lookup(len(keys) - found.count(None), found.count(None))
        return found

    def put(self, entries: Sequence[Stored], seconds: float) -> bool:
        """Store each entry unless a later version is present. Return False if Redis is unreachable.

        Then the entries are invalidated as soon as Redis is back.
        """
        if self._guarded(self._put, entries, seconds) is not None:
            return True
        return self._keep_pending(entries, seconds)

    def require_writable(self) -> None:
        """Do nothing: any number of processes may write."""

    def fill(self, entries: Sequence[Stored], seconds: float, lease: Lease) -> None:
        """Store what was read, where the lease is still there; without Redis it may be lost."""
        if self._is_trusted and time.monotonic() < lease.end:
            self._guarded(self._put, entries, seconds, lease.mark)

    def forget(self, key: str) -> None:
        """Drop an entry."""
        self._guarded(lambda: self._get_client().delete(key))

    def invalidate_all(self, reason: str) -> None:
        """Ignore every entry for about a second, and afterwards the entries that were stored before the end of it.

        The pause lets pending fills end: they may carry rows from before this call. Nothing is deleted in Redis.
        """
        with self._lock:
            loss = self._stop_trusting()
        extra = {"event": "cache.invalidated", "cause": reason}
        logger.warning("cache invalidated: entries stored until now are ignored", extra=extra)
        _call_later(_SETTLING, lambda: self._trust(loss))

    def ping(self) -> bool:
        """Return True if Redis answers now, and its entries are used."""
        return self._is_trusted and self._guarded(self._get, []) is not None

    @property
    def _is_trusted(self) -> bool:
        return self._trusted_since < math.inf

    def _parse_entry(self, key: str, entry: str | int | None) -> tuple[int, str] | None:
        if not isinstance(entry, str):
            return None
        try:
            version, stored_at, value = entry.split(" ", 2)
            if not value:  # a lease, or an invalidated entry
                return None
            return (int(version), value) if float(stored_at) >= self._trusted_since else None
        except ValueError:  # corrupt, or written by another program
            self.forget(key)
            return None

    def _get_client(self) -> Any:
        """Return the client. It is created on first use: an unreachable cluster must not stop the start."""
        if self._client is None:
            client = self._connect()
            times_of(client)  # connects to every primary; one that appears later has replaced another
            is_cluster = isinstance(client, RedisCluster)  # which has a pool for each of its nodes
            self._client = client if is_cluster else HeldConnections(client.connection_pool)
        return self._client

    def _on_connect(self, connection: Any) -> None:
        """Invalidate the cache if a new connection reaches another server, or a restarted one: it may lack writes."""
        connection.send_command("INFO", "server", "replication")
        facts = connection.read_response().split()
        server = " ".join(fact for fact in facts if fact.startswith(("run_id:", "master_replid:")))
        if server not in self._known_servers:
            if self._client is not None:
                self.invalidate_all("another server, or the same one restarted")
            if isinstance(self._client, HeldConnections):
                self._client.drop()  # no thread may go on reading from the old server
            self._known_servers.add(server)

    def _get(self, keys: Sequence[str], lease: Lease | None = None) -> Any:
        return self._run_script(GET, keys, (lease.mark if lease else "", _LEASE_MILLISECONDS))

    def _run_script(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        client = self._get_client()
        command = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
        try:
            return client.execute_command(*command)
        except NoScriptError:  # a new server
            client.execute_command("SCRIPT LOAD", script.text)
            return client.execute_command(*command)

    def _now(self) -> float:
        """Return the server's time, or the latest of several servers."""
        return max(times_of(self._get_client()))

    def _put(self, entries: Sequence[Stored], seconds: float, mark: str = "") -> Any:
        keys: list[str] = []
        arguments: list[str | int] = [int(seconds * 1000), mark]
        for key, version, value in entries:
            keys.append(key)
            arguments += [version, value]
        try:
            removed = self._run_script(PUT, keys, arguments)
        except redis.OutOfMemoryError:
            self._get_client().delete(*keys)  # a full Redis still deletes; without a lease, no reader refills them
            raise
        self._note_removed(removed)
        return removed

    def _note_removed(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.on_event("removed")
            extra = {"event": "cache.removed", "key": key}
            logger.warning("cache entry removed: too large, or not a string; another program wrote it", extra=extra)

    def _guarded(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Return the result of `call`, or None if Redis is, or just became, unreachable."""
        if self._is_open:
            return None
        try:
            return call(*arguments)
        except FAILURES as error:
            self._open(error)
            return None

    def _open(self, error: Exception) -> None:
        self.on_event("error")
        with self._lock:
            if self._is_open:
                return
            self._is_open = True
            self._stop_trusting()
            self.on_event("open")
        logger.warning(
            "Redis unreachable: reads go to the database", extra={"event": "cache.open", "cause": str(error)}
        )
        self._probe_later()

    def _stop_trusting(self) -> int:
        """Ignore all entries. Return the number of this loss of trust, for `_trust`."""
        self._trust_losses += 1
        self._trusted_since = math.inf
        return self._trust_losses

    def _keep_pending(self, entries: Sequence[Stored], seconds: float) -> bool:
        with self._lock:
            if self._is_open:
                for key, version, _ in entries:
                    self._pending_invalidations[key] = max(
                        self._pending_invalidations.get(key, (0, 0.0)), (version, seconds)
                    )
                while len(self._pending_invalidations) > _MAX_PENDING:
                    self._pending_invalidations.pop(next(iter(self._pending_invalidations)))
                return False
        return self.put(entries, seconds)  # Redis came back between the failure and the lock

    # Not a `Probe`, which lets a request try: the request would wait for Redis.
    def _probe_later(self) -> None:
        _call_later(_PROBE_INTERVAL, self._probe)

    def _probe(self) -> None:
        loss = self._trust_losses
        try:
            self._replay()
        except FAILURES:
            return
        finally:
            if self._is_open:
                self._probe_later()
        _call_later(_SETTLING, lambda: self._trust(loss))
        logger.warning("Redis is back: reads use it again in a second", extra={"event": "cache.closed"})

    def _trust(self, loss: int) -> None:
        """Use entries that are stored from now on, unless trust was lost again since `loss`."""
        now = self._guarded(self._now)
        with self._lock:
            if now and loss == self._trust_losses:
                self._trusted_since = now
                self.on_event("trusted")

    def _replay(self) -> None:
        """Invalidate in Redis the entries that changed during the outage, then close the breaker.

        The entries are sent without values: another process may have written later ones, also during the outage.
        """
        self._get([])
        sent: dict[str, tuple[int, float]] = {}
        while True:
            with self._lock:  # so that nothing becomes pending between the last check and the closing
                pending = self._pending_invalidations
                unsent = {key: missed for key, missed in pending.items() if sent.get(key) != missed}
                if not unsent:
                    pending.clear()
                    self._is_open = False
                    return
            try:
                for key, (version, lifetime) in unsent.items():
                    self._put([(key, version, "")], lifetime)
            except redis.OutOfMemoryError:
                self._get_client().delete(*unsent)
                raise
            sent |= unsent


def _call_later(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True  # the process need not wait for it to end
    timer.start()
