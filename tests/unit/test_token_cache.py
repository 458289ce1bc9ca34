"""The cache of verified tokens: bounded in number and in time."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from apps.security import token_cache
from apps.security.token_cache import TokenCache, Verified

START = datetime(2026, 1, 1, tzinfo=UTC)
LEEWAY = timedelta(seconds=10)


def good_for(seconds: int) -> Verified:
    now = int(START.timestamp())
    return Verified({"nbf": now, "exp": now + seconds}, None)


@pytest.mark.parametrize(("seconds", "is_known"), [(-11, False), (-10, True), (0, True), (129, True), (130, False)])
def test_a_token_is_known_in_its_time_and_the_leeway(seconds: int, is_known: bool) -> None:
    """T5, V7: also when the clock is set back."""
    with time_machine.travel(START, tick=False) as clock:
        tokens = TokenCache(LEEWAY)
        tokens.put("a.b.c", good_for(120))
        clock.shift(seconds)
        assert (tokens.get("a.b.c") == good_for(120)) is is_known


def test_no_other_token_is_known() -> None:
    """T1."""
    with time_machine.travel(START, tick=False):
        tokens = TokenCache(LEEWAY)
        tokens.put("a.b.c", good_for(120))
        assert [tokens.get(other) for other in ("a.b.d", "a.b.c ", "a.b.", "")] == [None] * 4


def test_the_one_not_used_for_longest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """T9: the number of kept tokens is bounded, however many are sent."""
    monkeypatch.setattr(token_cache, "_MAX_TOKENS", 2)
    with time_machine.travel(START, tick=False):
        tokens = TokenCache(LEEWAY)
        for token in ("first", "second"):
            tokens.put(token, good_for(120))
        assert tokens.get("first")
        tokens.put("third", good_for(120))
        assert [token for token in ("first", "second", "third") if tokens.get(token)] == ["first", "third"]
