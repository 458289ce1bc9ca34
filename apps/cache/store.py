"""The cache in front of the database: versioned entries, in Redis or in this process.

The database is the truth. An entry is replaced only by one of the same or a later version, so a slow reader cannot put
an old row back over a newer one (the race that leases solve in "Scaling Memcache at Facebook", NSDI 2013). A reader
that a flush overtook cannot either: it fills an entry only while the lease of its own miss is still there. A deletion
is an entry too: a tombstone, whose version nothing exceeds. A failing cache costs time and never a right answer. See
docs/cache.md and decision 0002.
"""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from flask import Flask, current_app

from apps.cache.memory import MemoryCache
from apps.cache.redis import Lease, RedisCache, Stored
from apps.cache.single_process import SingleProcess
from apps.config import settings

TOMBSTONE_VERSION = 2**53 - 1  # the largest integer that Lua represents exactly
_FILL_WAIT = 1.0  # seconds that a reader waits for another one that fills the same entry


class Store(Protocol):
    """Where the entries are kept, as (key, version, value). The entries of one call belong to one user."""

    on_lookup: Callable[[int, int], None] | None  # called with the numbers of hits and of misses

    def get_many(self, keys: Sequence[str], lease: Lease | None = None) -> list[tuple[int, str] | None]:
        """Return a (version, value) or None for each key, in one round trip; only None while the store fails.

        Each None allows a `fill` with `lease` for one second, unless another reader holds the lease.
        """

    def put(self, entries: Sequence[Stored], seconds: float) -> bool:
        """Store each entry unless a later version is present. Return True if every other process sees it now."""

    def require_writable(self) -> None:
        """Raise `SecondProcess` if `put` would; call it before the commit."""

    def fill(self, entries: Sequence[Stored], seconds: float, lease: Lease) -> None:
        """Store what was read, unless a later version is or was present; a failing store may lose it."""

    def invalidate_all(self, reason: str) -> None:
        """Ignore everything that is stored now."""

    def forget(self, key: str) -> None:
        """Drop an entry that is unusable."""

    def ping(self) -> bool:
        """Return True if the store answers now."""


class Cache:
    """The extension. `cache.init_app(app)` uses Redis if `REDIS_URL` is set, else the memory of this process."""

    def init_app(self, app: Flask) -> None:
        """Bind to `app`."""
        url = settings(app).REDIS_URL
        app.extensions["cache"] = RedisCache(url, settings(app).REDIS_TIMEOUT) if url else _in_memory(app)
        app.extensions["cache_fills"] = [threading.Lock() for _ in range(64)]

    @property
    def store(self) -> Store:
        """The store of the current application."""
        store: Store = current_app.extensions["cache"]
        return store

    def get_many(self, keys: Sequence[str], lease: Lease | None = None) -> list[tuple[int, str] | None]:
        """Return the (version, value) of each key, or None for a miss, which `lease` then allows to fill."""
        return self.store.get_many(keys, lease)

    def put(self, entries: Sequence[Stored]) -> bool:
        """Store what was committed. Return True if every other process sees it now."""
        return self.store.put(entries, _lifetime())

    def fill(self, entries: Sequence[Stored], lease: Lease) -> None:
        """Store what was read after the miss that left `lease`."""
        self.store.fill(entries, _lifetime(), lease)

    def forget(self, key: str) -> None:
        """Drop an entry that is unusable."""
        self.store.forget(key)

    @contextmanager
    def filling(self, key: str) -> Iterator[Lease]:
        """Let one thread of this process fill `key` at a time, with the lease that it gets.

        The wait is bounded; after it a reader asks the database itself.
        """
        locks: list[threading.Lock] = current_app.extensions["cache_fills"]
        lock = locks[hash(key) % len(locks)]
        held = lock.acquire(timeout=_FILL_WAIT)
        try:
            yield Lease.begin()
        finally:
            if held:
                lock.release()


def _in_memory(app: Flask) -> MemoryCache:
    return MemoryCache(SingleProcess(app.config["SQLALCHEMY_DATABASE_URI"], app.instance_path))


def _lifetime() -> float:
    """Return about `CACHE_TTL` seconds; the jitter keeps entries of one moment from expiring in one moment."""
    return settings().CACHE_TTL * random.uniform(0.8, 1.0)  # noqa: S311 (no secret)
