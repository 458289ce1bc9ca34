"""The two stores of the cache, and what the one in Redis does when Redis goes away and comes back."""

import pickle
import random
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.utils import memory_cache, redis_cache
from apps.utils.cache import TOMBSTONE_VERSION, Store
from apps.utils.redis_cache import RedisCache
from tests.faults import wait_until
from tests.support import stores
from tests.support.proxy import Proxy, through_proxy

MINUTE = 60.0
GARBAGE = {
    "nothing": b"",
    "one word": b"x",
    "two words": b"1 2",
    "no version": b"one 1.5 {}",
    "no time": b"1 noon {}",
    "pickle": pickle.dumps({"id": 1}),
    "not UTF-8": b"\xff\xfe\x00 \x80 \x81",
    "endless digits": b"9" * 5000 + b" 1.5 {}",
}


@pytest.fixture
def server() -> Iterator[redis.Redis]:
    """This worker's own database on the Redis of the run, empty."""
    if not stores.server_url("redis"):
        pytest.skip("no redis here")
    with redis.Redis.from_url(stores.cache_url("redis")) as server:
        server.flushdb()
        yield server
        server.flushdb()


@pytest.fixture(params=["memory", "redis"])
def place(request: pytest.FixtureRequest) -> Store:
    """An empty store of each kind."""
    if request.param == "memory":
        return stores.memory_cache()
    request.getfixturevalue("server")
    return RedisCache(stores.cache_url("redis"), 1)


@pytest.fixture
def other(server: redis.Redis) -> RedisCache:
    """The store of another process, which always reaches Redis."""
    return RedisCache(stores.cache_url("redis"), 1)


@pytest.fixture
def proxy(server: redis.Redis) -> Iterator[Proxy]:
    with through_proxy(stores.cache_url("redis")) as (proxy, url):
        proxy.url = url
        yield proxy


@pytest.fixture
def cache(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisCache]:
    """A store that reaches Redis by the proxy, and asks often whether it is back."""
    monkeypatch.setattr(redis_cache, "_PROBE_INTERVAL", 0.05)
    monkeypatch.setattr(redis_cache, "_SETTLING", 0.05)
    cache = RedisCache(proxy.url, 0.2)
    yield cache
    cache._is_open = False  # ends the probes


def lose(cache: RedisCache, proxy: Proxy) -> None:
    proxy.refuse()
    assert cache.get_many(["anything"]) == [None]


def find_again(cache: RedisCache, proxy: Proxy) -> None:
    proxy.listen()
    wait_until(cache.ping)


def test_an_older_version_never_replaces_a_later_one(place: Store) -> None:
    """K4: a slow reader puts the row back that it read before a write."""
    place.put("k", 2, "new", MINUTE)
    place.put("k", 1, "old", MINUTE)
    place.fill("k", 1, "old", MINUTE)
    assert place.get_many(["k", "none"]) == [(2, "new"), None]


def test_nothing_replaces_a_tombstone(place: Store) -> None:
    """K4: a delete, and a slow reader of the row that was."""
    place.put("k", TOMBSTONE_VERSION, "gone", MINUTE)
    place.fill("k", TOMBSTONE_VERSION - 1, "old", MINUTE)
    assert place.get_many(["k"]) == [(TOMBSTONE_VERSION, "gone")]


@given(versions=st.lists(st.integers(1, TOMBSTONE_VERSION), min_size=1, max_size=12))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_version_of_an_entry_never_falls(place: Store, versions: list[int]) -> None:
    """K4."""
    key = str(uuid.uuid4())
    for number, version in enumerate(versions, start=1):
        place.put(key, version, f"of {version}", MINUTE)
        latest = max(versions[:number])
        assert place.get_many([key]) == [(latest, f"of {latest}")]


def test_of_racing_writers_the_latest_version_stays(place: Store) -> None:
    """K4."""
    versions = random.sample(range(1, 301), 300)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda version: place.put("k", version, str(version), MINUTE), versions))
    assert place.get_many(["k"]) == [(300, "300")]


def test_an_entry_ends_with_its_time(place: Store) -> None:
    """K3."""
    place.put("k", 1, "v", 0.05)
    assert place.get_many(["k"]) == [(1, "v")]
    time.sleep(0.06)
    assert place.get_many(["k"]) == [None]


def test_a_dropped_entry_is_a_miss(place: Store) -> None:
    place.put("k", 5, "v", MINUTE)
    place.forget("k")
    assert place.get_many(["k"]) == [None]
    place.put("k", 1, "v", MINUTE)
    assert place.get_many(["k"]) == [(1, "v")]


def test_the_memory_of_a_process_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_cache, "_MOST_ENTRIES", 2)
    place = stores.memory_cache()
    for key in "abc":
        place.put(key, 1, key, MINUTE)
    assert place.get_many(["a", "b", "c"]) == [None, (1, "b"), (1, "c")]


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_a_miss_and_is_dropped(server: redis.Redis, other: RedisCache, garbage: bytes) -> None:
    """K1, K3."""
    server.set("k", garbage)
    assert other.get_many(["k"]) == [None]
    assert not server.exists("k")


def test_a_key_of_another_kind_is_a_miss_and_is_overwritten(server: redis.Redis, other: RedisCache) -> None:
    """K3: and does not keep the breaker open for ever, as a write that always fails would."""
    server.rpush("k", "a list")
    assert other.get_many(["k"]) == [None]
    other.put("k", 1, "v", MINUTE)
    assert other.get_many(["k"]) == [(1, "v")]
    assert server.ttl("k") > 0


def test_a_late_answer_is_never_taken_for_another_one(server: redis.Redis, proxy: Proxy) -> None:
    """K2: a connection whose answer did not come in time serves nobody again."""
    keys = [f"user {number}" for number in range(50)]
    server.mset({key: key for key in keys})
    client = RedisCache(proxy.url, 0.03)._reached()  # below the breaker, which would let few calls through
    proxy.delay = lambda: random.choice([0, 0, 0, 0.02, 0.05])

    def ask(key: str) -> str | None:
        try:
            return client.mget([key])[0]
        except redis.TimeoutError:
            return None

    with ThreadPoolExecutor(8) as threads:
        answers = list(zip(keys * 20, threads.map(ask, keys * 20), strict=True))
    assert [pair for pair in answers if pair[1] not in (None, pair[0])] == []
    assert {None, "user 7"} <= {answer for _, answer in answers}  # some came in time, some did not


def test_after_one_failure_no_call_waits_for_redis(
    cache: RedisCache, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V1, F16."""
    monkeypatch.setattr(redis_cache, "_PROBE_INTERVAL", 60)
    proxy.is_silent = True
    assert cache.get_many(["k"]) == [None]
    sent = proxy.commands
    assert cache.get_many(["k", "l"]) == [None, None]
    cache.put("k", 1, "v", MINUTE)
    cache.forget("k")
    assert not cache.ping()
    assert proxy.commands == sent


def test_what_was_stored_before_the_recovery_is_not_believed(
    cache: RedisCache, other: RedisCache, proxy: Proxy
) -> None:
    """K5: another process may have failed to replace it."""
    cache.put("k", 1, "old", MINUTE)
    lose(cache, proxy)
    find_again(cache, proxy)
    assert cache.get_many(["k"]) == [None]
    other.put("k", 1, "read again", MINUTE)
    assert cache.get_many(["k"]) == [(1, "read again")]


def test_redis_is_told_before_it_is_believed(
    cache: RedisCache, other: RedisCache, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K5: a process that finds it first neither reads what the others missed, nor keeps from them what it writes."""
    monkeypatch.setattr(redis_cache, "_SETTLING", 60)
    lose(cache, proxy)
    proxy.listen()
    wait_until(lambda: not cache._is_open)
    other.put("k", 1, "old", MINUTE)  # as a frozen Redis stores after its thaw what waited in a socket
    assert cache.get_many(["k"]) == [None]
    cache.put("k", 2, "new", MINUTE)
    assert other.get_many(["k"]) == [(2, "new")]
    assert not cache.ping()


def test_an_outage_while_it_settles_begins_it_anew(
    cache: RedisCache, other: RedisCache, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K5: the second of the first outage does not end the second one's."""
    lose(cache, proxy)
    first = cache._outages
    monkeypatch.setattr(redis_cache, "_SETTLING", 60)
    proxy.listen()
    wait_until(lambda: not cache._is_open)
    proxy.refuse()
    cache.put("k", 2, "missed", MINUTE)
    assert cache._is_open
    proxy.listen()
    wait_until(lambda: not cache._is_open)
    cache._believe(first)
    assert not cache.ping()
    cache._believe(cache._outages)
    assert cache.ping()


def test_redis_is_told_which_entries_were_overtaken(cache: RedisCache, other: RedisCache, proxy: Proxy) -> None:
    """K5, K7: before it is believed again; also for a process that noticed nothing."""
    other.put("session", 1, "live", MINUTE)
    lose(cache, proxy)
    cache.put("session", 2, "over", MINUTE)
    find_again(cache, proxy)
    assert other.get_many(["session"]) == [None]
    other.fill("session", 1, "live", MINUTE)
    assert other.get_many(["session"]) == [None]
    other.fill("session", 2, "over", MINUTE)
    assert cache.get_many(["session"]) == [(2, "over")]


def test_what_a_process_wrote_long_ago_does_not_come_back_as_new(
    cache: RedisCache, other: RedisCache, proxy: Proxy
) -> None:
    """K4: by the time that Redis is back, others may have written more, and may still be cut off."""
    lose(cache, proxy)
    cache.put("k", 2, "overtaken meanwhile", MINUTE)
    cache.fill("l", 1, "overtaken meanwhile", MINUTE)
    find_again(cache, proxy)
    assert cache.get_many(["k", "l"]) == [None, None]
    assert other.get_many(["k", "l"]) == [None, None]


def test_a_later_write_of_another_process_outlives_the_recovery(
    cache: RedisCache, other: RedisCache, proxy: Proxy
) -> None:
    """K4."""
    lose(cache, proxy)
    cache.put("k", 2, "mine", MINUTE)
    other.put("k", 3, "theirs", MINUTE)
    find_again(cache, proxy)
    assert other.get_many(["k"]) == [(3, "theirs")]


def test_readers_do_not_push_out_what_redis_must_be_told(
    cache: RedisCache, other: RedisCache, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K7: however many users are read while Redis is away, a logout is not forgotten."""
    monkeypatch.setattr(redis_cache, "_MOST_MISSED", 3)
    other.put("session", 1, "live", MINUTE)
    lose(cache, proxy)
    cache.put("session", 2, "over", MINUTE)
    for number in range(10):
        cache.fill(f"reader {number}", 1, "v", MINUTE)
    find_again(cache, proxy)
    assert other.get_many(["session"]) == [None]


def test_what_redis_must_be_told_is_bounded(
    cache: RedisCache, other: RedisCache, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K5: beyond it the oldest entry lapses by its time to live."""
    monkeypatch.setattr(redis_cache, "_MOST_MISSED", 3)
    for key in "abcd":
        other.put(key, 1, key, MINUTE)
    lose(cache, proxy)
    for key in "abcd":
        cache.put(key, 2, key, MINUTE)
    find_again(cache, proxy)
    assert other.get_many(list("abcd")) == [(1, "a"), None, None, None]


def test_nobody_waits_while_redis_is_told(other: RedisCache, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """V1: and what is written meanwhile is told as well, before the breaker closes."""
    monkeypatch.setattr(redis_cache, "_PROBE_INTERVAL", 0.05)
    monkeypatch.setattr(redis_cache, "_SETTLING", 0.05)
    cache = RedisCache(proxy.url, 10)
    lose(cache, proxy)
    cache.put("k", 2, "v", MINUTE)
    telling = proxy.hold(b"EVALSHA")
    proxy.listen()
    assert telling.reached.wait(10)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(cache.put, "l", 2, "v", MINUTE).result(timeout=5)
        assert not cache.ping()
        telling.release()
    wait_until(cache.ping)
    other.put("l", 1, "old", MINUTE)
    assert other.get_many(["l"]) == [None]
