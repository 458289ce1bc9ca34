"""V2: which database failures open the breaker."""

import contextlib
import time

import pytest

from apps.cache.probe import Probe
from apps.database import timeouts


@pytest.mark.parametrize(("seconds", "fails", "is_open"), [(0.06, True, True), (0.06, False, False), (0, True, False)])
def test_only_a_late_failure_opens_the_breaker(
    monkeypatch: pytest.MonkeyPatch, seconds: float, fails: bool, is_open: bool
) -> None:
    """Neither a late success, as on a busy machine, nor an immediate error opens it."""
    monkeypatch.setattr(timeouts, "_PING_TIMEOUT", 0.05)
    breaker = Probe(1)
    with contextlib.suppress(OSError), timeouts._watched(breaker):
        time.sleep(seconds)
        if fails:
            raise OSError
    assert breaker.may_try() is not is_open
