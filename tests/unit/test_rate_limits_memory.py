"""In-memory counters: they count like the library's storage, and are bounded."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
import time_machine
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from apps.rate_limits import memory
from apps.rate_limits.memory import BoundedMemoryStorage

START = datetime(2026, 1, 1, 12, 0, 7, tzinfo=UTC)  # seven seconds into a minute
TEN = RateLimitItemPerMinute(10)


def hits(limiter: SlidingWindowCounterRateLimiter, number: int, who: str = "alice") -> int:
    return sum(limiter.hit(TEN, who) for _ in range(number))


@pytest.mark.parametrize("pause", [1, 5, 13, 30, 53, 59, 60, 61, 119, 200])
def test_the_windows_slide_as_the_librarys_do(pause: int) -> None:
    """B1: the library's strategy gives the same result with our storage and with its own, hit by hit."""
    with time_machine.travel(START, tick=False) as clock:
        ours, theirs = (SlidingWindowCounterRateLimiter(kind()) for kind in (BoundedMemoryStorage, MemoryStorage))
        seen = []
        for burst in (3, 4, 9, 1, 12, 2, 2, 20):
            assert hits(ours, burst) == hits(theirs, burst)
            assert ours.get_window_stats(TEN, "alice") == theirs.get_window_stats(TEN, "alice")
            seen.append(ours.get_window_stats(TEN, "alice").remaining)
            clock.shift(pause)
    assert 0 in seen


def test_each_key_has_its_own_count() -> None:
    limiter = SlidingWindowCounterRateLimiter(BoundedMemoryStorage())
    with time_machine.travel(START, tick=False):
        assert [hits(limiter, 20, "alice"), hits(limiter, 20, "bob")] == [10, 10]


def test_what_many_count_at_once_is_counted_once() -> None:
    """B1: parallel hits are allowed exactly up to the limit."""
    limiter = SlidingWindowCounterRateLimiter(BoundedMemoryStorage())
    start = threading.Barrier(8)

    def hit(_: int) -> int:
        start.wait()
        return hits(limiter, 5)

    with time_machine.travel(START, tick=False), ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(hit, range(8))) == 10


def test_the_one_not_counted_for_longest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """V1: a flood of addresses uses a bounded amount of memory."""
    monkeypatch.setattr(memory, "_MAX_KEYS", 2)
    limiter = SlidingWindowCounterRateLimiter(BoundedMemoryStorage())
    with time_machine.travel(START, tick=False):
        counts = [hits(limiter, 8, who) for who in ("alice", "bob", "alice", "carol", "alice", "bob")]
    assert counts == [8, 8, 2, 8, 0, 8]
