"""A cache in the memory of one process, for a service that runs as one process."""

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence

from apps.cache.single_process import OneProcess
from apps.errors import SecondProcess

_MOST_ENTRIES = 100_000  # about 50 MB; the entry that was stored first goes first


class MemoryCache:
    """A bounded dict whose entries expire; only the one process that serves may have it."""

    def __init__(self, one_process: OneProcess) -> None:
        self._one_process = one_process
        self._entries: OrderedDict[str, tuple[float, int, str]] = OrderedDict()
        self._lock = threading.Lock()

    def get_many(self, keys: Sequence[str], _lease: object = None) -> list[tuple[int, str] | None]:
        """Return a (version, value) or None for each key. Raises `SecondProcess`."""
        self._require_one_process()
        return [self._get(key) for key in keys]

    def _get(self, key: str) -> tuple[int, str] | None:
        entry = self._entries.get(key)
        if entry is None or entry[0] <= time.monotonic():
            return None
        return entry[1:]

    def put(self, entries: Sequence[tuple[str, int, str]], seconds: float) -> bool:
        """Store each unless a later version is there. Raises `SecondProcess`."""
        self._require_one_process()
        with self._lock:
            for key, version, value in entries:
                known = self._get(key)
                if known is None or known[0] <= version:
                    self._store(key, (time.monotonic() + seconds, version, value))
        return True

    def fill(self, entries: Sequence[tuple[str, int, str]], seconds: float, _lease: object) -> None:
        """Store what was only read; nothing here is flushed, so no lease is needed."""
        self.put(entries, seconds)

    def _store(self, key: str, entry: tuple[float, int, str]) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > _MOST_ENTRIES:
            self._entries.popitem(last=False)

    def distrust(self, reason: str) -> None:
        """Do nothing: no other process writes to the database."""

    def forget(self, key: str) -> None:
        """Drop an entry."""
        with self._lock:
            self._entries.pop(key, None)

    def ping(self) -> bool:
        """Whether this process may serve."""
        return self._one_process.is_ours()

    def _require_one_process(self) -> None:
        if not self._one_process.is_ours():
            raise SecondProcess
