"""V2: a database that did not answer is tried by one request at a time, and nobody else waits for it."""

import contextlib
import time

import pytest

from apps.database import timeouts
from apps.database.timeouts import Silence


def test_of_those_who_find_it_silent_one_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "_PAUSE", 0.05)
    silence = Silence()
    assert [silence.may_try() for _ in range(3)] == [True] * 3
    silence.begin()
    assert not silence.may_try()
    time.sleep(0.06)
    assert [silence.may_try() for _ in range(3)] == [True, False, False]
    silence.end()
    assert [silence.may_try() for _ in range(3)] == [True] * 3


@pytest.mark.parametrize(
    ("seconds", "fails", "is_silent"), [(0.06, True, True), (0.06, False, False), (0, True, False)]
)
def test_only_a_late_failure_is_silence(
    monkeypatch: pytest.MonkeyPatch, seconds: float, fails: bool, is_silent: bool
) -> None:
    """A late answer is one, on a machine that is busy; a refusal at once is one as well."""
    monkeypatch.setattr(timeouts, "_PING", 0.05)
    silence = Silence()
    with contextlib.suppress(OSError), timeouts._noticing(silence):
        time.sleep(seconds)
        if fails:
            raise OSError
    assert silence.may_try() is not is_silent
