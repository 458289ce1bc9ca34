"""V1, V2: while a server fails, one caller per interval tries it again, and no other caller waits."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from apps.cache.probe import Probe

INTERVAL = 0.05
THREADS = 16


def at_once(act: Callable[[], bool]) -> int:
    """Start all threads together and return in how many of them `act` returned True."""
    start = Barrier(THREADS)

    def run(_: int) -> bool:
        start.wait()
        return act()

    with ThreadPoolExecutor(THREADS) as threads:
        return sum(threads.map(run, range(THREADS)))


def test_while_it_is_closed_everybody_may_try() -> None:
    assert at_once(Probe(INTERVAL).may_try) == THREADS


def test_while_it_is_open_one_may_try_per_interval() -> None:
    probe = Probe(INTERVAL)
    probe.open()
    assert not probe.may_try()
    for _ in range(10):
        time.sleep(INTERVAL * 1.2)
        assert at_once(probe.may_try) == 1


def test_one_that_starts_open_is_due_at_once() -> None:
    assert at_once(Probe(60, is_open=True).may_try) == 1


def test_a_success_closes_it_for_everybody() -> None:
    probe = Probe(60)
    probe.open()
    probe.close()
    assert at_once(probe.may_try) == THREADS


def test_a_failed_try_delays_the_next_one() -> None:
    probe = Probe(INTERVAL)
    probe.open()
    time.sleep(INTERVAL * 1.2)
    assert probe.may_try()
    probe.open()
    assert not probe.may_try()


@pytest.mark.parametrize("state", ["closed", "open"])
def test_of_those_who_change_the_state_at_once_one_has_changed_it(state: str) -> None:
    """So a change is logged once."""
    probe = Probe(60)
    if state == "open":
        probe.open()
    assert at_once(probe.open if state == "closed" else probe.close) == 1
