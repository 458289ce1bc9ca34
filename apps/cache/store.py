"""The cache in front of the database: versioned entries, in Redis or in this process.

The database is the truth. An entry is only ever replaced by one of the same or a later version, so a slow reader
cannot put an old row back over a newer one (the race that leases solve in "Scaling Memcache at Facebook", NSDI 2013).
Neither can one that a flush overtook: it fills only where the lease that its own miss left still is. A deletion is an
entry too: a tombstone, whose version nothing exceeds. A cache that fails costs time, never a right answer.
"""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from flask import Flask, current_app

from apps.cache.memory import MemoryCache
from apps.cache.redis import Lease, RedisCache, Stored
from apps.cache.single_process import OneProcess
from apps.config import settings

TOMBSTONE_VERSION = 2**53 - 1  # the largest integer that Lua keeps exact
_FILL_WAIT = 1.0  # seconds that a reader waits for another that fills the same entry


class Store(Protocol):
    """What a cache needs of the place that keeps its entries: (key, version, value), those of one call of one user."""

    def get_many(self, keys: Sequence[str], lease: Lease | None = None) -> list[tuple[int, str] | None]:
        """Return a (version, value) or None for each key, in one round trip; a store that fails knows nothing.

        Where it returns None, `lease` allows a `fill` for a second, if nobody else holds one.
        """

    def put(self, entries: Sequence[Stored], seconds: float) -> bool:
        """Store each unless a later version is there; return whether every other process can see it now."""

    def fill(self, entries: Sequence[Stored], seconds: float, lease: Lease) -> None:
        """Store what was only read, unless a later version is there, or was; a store that fails may lose it."""

    def distrust(self, reason: str) -> None:
        """Forget, in effect, whatever is there."""

    def forget(self, key: str) -> None:
        """Drop an entry that cannot be believed."""

    def ping(self) -> bool:
        """Whether the store answers now."""


class Cache:
    """The extension: `cache.init_app(app)` picks Redis when `REDIS_URL` is set, else this process's memory."""

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
        """Store what was just committed; return whether every other process can see it now."""
        return self.store.put(entries, _lifetime())

    def fill(self, entries: Sequence[Stored], lease: Lease) -> None:
        """Store what was just read, after the miss that had this lease."""
        self.store.fill(entries, _lifetime(), lease)

    def bury(self, key: str) -> bool:
        """Mark the row behind `key` as deleted, as `put` does; the entry names its row, as every other does."""
        return self.put([(key, TOMBSTONE_VERSION, key)])

    def forget(self, key: str) -> None:
        """Drop an entry that cannot be believed."""
        self.store.forget(key)

    @contextmanager
    def filling(self, key: str) -> Iterator[Lease]:
        """Let one thread of this process fill `key` at a time, by the lease that it gets.

        The wait is bounded: a reader that has waited long enough asks the database itself.
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
    return MemoryCache(OneProcess(app.config["SQLALCHEMY_DATABASE_URI"], app.instance_path))


def _lifetime() -> float:
    """Return about `CACHE_TTL` seconds; jitter keeps the entries of one moment from ending in one moment."""
    seconds: int = settings().CACHE_TTL
    return seconds * random.uniform(0.8, 1.0)  # noqa: S311 (no secret)
