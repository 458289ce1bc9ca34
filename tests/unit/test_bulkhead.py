"""V3: a hung database does not occupy every thread of the process."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from apps.database.bulkhead import Bulkhead
from apps.errors import DatabaseUnavailable


def test_as_many_as_there_is_room_for_are_inside_at_a_time() -> None:
    bulkhead, inside, most = Bulkhead(3), [0], [0]
    lock = threading.Lock()

    def visit(_: int) -> None:
        with bulkhead.enter():
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.002)
            with lock:
                inside[0] -= 1

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(visit, range(60)))
    assert most == [3]


def test_nobody_waits_behind_one_who_is_stuck() -> None:
    bulkhead = Bulkhead(1, stuck_after=0.05)
    with bulkhead.enter():
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable), bulkhead.enter():
                pass
    with bulkhead.enter():
        pass


def test_who_waits_goes_in_when_another_comes_out() -> None:
    bulkhead, waits = Bulkhead(1), threading.Event()

    def wait_and_visit() -> bool:
        waits.set()
        with bulkhead.enter():
            return True

    with ThreadPoolExecutor(1) as thread:
        with bulkhead.enter():
            late = thread.submit(wait_and_visit)
            assert waits.wait(5)
        assert late.result(5)


def test_who_fails_inside_makes_room() -> None:
    bulkhead = Bulkhead(1)
    with pytest.raises(ValueError, match="as the database may"), bulkhead.enter():
        raise ValueError("as the database may")
    with bulkhead.enter():
        pass
