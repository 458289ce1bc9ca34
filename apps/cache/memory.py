"""A cache in the memory of one process, for a service that runs as one process."""

import threading
import time
from collections.abc import Callable, Sequence

from cachetools import TLRUCache

from apps.cache.single_process import SingleProcess
from apps.errors import SecondProcess

_MAX_ENTRIES = 100_000  # about 50 MB; then the least recently used entry is dropped

_Entry = tuple[float, int, str]  # seconds to live, version, value


class MemoryCache:
    """A bounded dict whose entries expire. Only a single serving process may use it."""

    def __init__(self, single_process: SingleProcess) -> None:
        self._single_process = single_process
        self._entries: TLRUCache[str, _Entry] = TLRUCache(_MAX_ENTRIES, _expiry, time.monotonic)
        self._lock = threading.Lock()
        self.on_lookup: Callable[[int, int], None] | None = None  # called with the numbers of hits and of misses

    def get_many(self, keys: Sequence[str], _lease: object = None) -> list[tuple[int, str] | None]:
        """Return a (version, value) or None for each key. Raises `SecondProcess`."""
        self.require_writable()
        with self._lock:
            found = [self._get(key) for key in keys]
        found = [entry if entry and entry[1] else None for entry in found]  # without a value it is invalidated
        if self.on_lookup:
            self.on_lookup(len(keys) - found.count(None), found.count(None))
        return found

    def put(self, entries: Sequence[tuple[str, int, str]], seconds: float) -> bool:
        """Store each entry unless a later version is present. Raises `SecondProcess`."""
        self.require_writable()
        with self._lock:
            for key, version, value in entries:
                known = self._get(key)
                if known is None or known[0] <= version:
                    self._entries[key] = (seconds, version, value)
        return True

    def require_writable(self) -> None:
        """Raise `SecondProcess` unless this is the only process that serves."""
        if not self._single_process.is_ours():
            raise SecondProcess

    def fill(self, entries: Sequence[tuple[str, int, str]], seconds: float, _lease: object) -> None:
        """Store what was read. Nothing flushes this cache, so no lease is needed."""
        self.put(entries, seconds)

    def invalidate_all(self, reason: str) -> None:
        """Do nothing: no other process writes to the database."""

    def forget(self, key: str) -> None:
        """Drop an entry."""
        with self._lock:
            self._entries.pop(key, None)

    def ping(self) -> bool:
        """Return True if this process may serve."""
        return self._single_process.is_ours()

    def _get(self, key: str) -> tuple[int, str] | None:
        entry = self._entries.get(key)
        return entry and entry[1:]


def _expiry(_key: str, entry: _Entry, now: float) -> float:
    return now + entry[0]
