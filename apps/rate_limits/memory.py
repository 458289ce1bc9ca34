"""Request counts in the memory of one process."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from math import floor

from limits.storage import MemoryStorage

from apps.utils import clock

_MAX_KEYS = 50_000  # about 15 MB; beyond it the least recently counted key is dropped


@dataclass(slots=True)
class _Window:
    number: int  # windows of this length since 1970
    count: int = 0
    previous: int = 0  # the count of the previous window


class BoundedMemoryStorage(MemoryStorage):
    """Sliding windows for a bounded number of keys.

    The library's own class drops expired keys only in a thread that scans all keys, and it starts such a thread for
    every request after a quiet period.
    """

    STORAGE_SCHEME = ["bounded-memory"]  # noqa: RUF012 (the library's declaration)

    def __init__(self) -> None:
        super().__init__()
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._lock = threading.Lock()

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Add `amount` to the window of `expiry` seconds and return True, unless that would exceed `limit`."""
        number, passed = divmod(clock.now().timestamp(), expiry)
        with self._lock:
            window = self._window(key, int(number))
            if floor(window.previous * (1 - passed / expiry) + window.count) + amount > limit:
                return False
            window.count += amount
        return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return the counts of the previous and the current window, each with the seconds that it still matters."""
        number, passed = divmod(clock.now().timestamp(), expiry)
        with self._lock:
            window = self._window(key, int(number))
            return window.previous, expiry - passed, window.count, 2 * expiry - passed

    def _window(self, key: str, number: int) -> _Window:
        window = self._windows.get(key)
        if window is None or window.number != number:
            previous = window.count if window and window.number == number - 1 else 0
            window = self._windows[key] = _Window(number, previous=previous)
            if len(self._windows) > _MAX_KEYS:
                self._windows.popitem(last=False)
        self._windows.move_to_end(key)
        return window
