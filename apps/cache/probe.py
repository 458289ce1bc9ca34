"""A circuit breaker that admits one caller per interval, to find out whether a failed server is back."""

import threading
import time


class Probe:
    """A circuit breaker without a thread: while closed, every caller may try; while open, one caller per interval."""

    def __init__(self, interval: float, *, is_open: bool = False) -> None:
        """Allow a try every `interval` seconds while open. With `is_open` it starts open, and the first try is due."""
        self._interval = interval
        self._lock = threading.Lock()
        self._next_try = float("-inf") if is_open else 0.0  # monotonic clock; 0 while closed

    def may_try(self) -> bool:
        """Return True if the breaker is closed, or if the next try is due; then it is this caller's."""
        if not self._next_try:
            return True
        now = time.monotonic()
        if now < self._next_try:  # without the lock: most callers end here
            return False
        with self._lock:
            if now < self._next_try:
                return False
            self._next_try = now + self._interval if self._next_try else 0.0
        return True

    def open(self) -> bool:
        """Open the breaker after a failure, or delay the next try. Return True if it was closed."""
        with self._lock:
            was_closed = not self._next_try
            self._next_try = time.monotonic() + self._interval
        return was_closed

    def close(self) -> bool:
        """Close the breaker after a success. Return True if it was open."""
        if not self._next_try:
            return False
        with self._lock:
            was_open = bool(self._next_try)
            self._next_try = 0.0
        return was_open
