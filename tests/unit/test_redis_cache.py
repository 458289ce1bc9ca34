"""The store in Redis: which entries it uses, and how it handles a Redis that goes away and comes back."""

import pickle
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from apps.cache import redis as redis_cache
from apps.cache.redis import Lease, RedisCache
from apps.cache.redis_client import no_retries
from apps.cache.redis_pool import HeldConnections
from tests.faults import redis_server, wait_until
from tests.support import stores
from tests.support.cache import fill, look, put
from tests.support.proxy import Proxy, through_proxy

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
def proxy(server: redis.Redis) -> Iterator[Proxy]:
    with through_proxy(stores.cache_url("redis")) as (proxy, url):
        proxy.url = url
        yield proxy


@pytest.fixture
def cache(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisCache]:
    """A store that reaches Redis through the proxy and probes often."""
    monkeypatch.setattr(redis_cache, "_PROBE_INTERVAL", 0.05)
    monkeypatch.setattr(redis_cache, "_SETTLING", 0.05)
    cache = RedisCache(proxy.url, 0.2)
    yield cache
    cache._is_open = False  # ends the probes


def lose(cache: RedisCache, proxy: Proxy) -> None:
    proxy.refuse()
    assert look(cache, "anything") == [None]


def find_again(cache: RedisCache, proxy: Proxy) -> None:
    proxy.listen()
    wait_until(cache.ping)


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_a_miss_and_is_dropped(server: redis.Redis, other: RedisCache, garbage: bytes) -> None:
    """K1, K3."""
    server.set("k", garbage)
    assert look(other, "k") == [None]
    assert not server.exists("k")


def test_a_key_of_another_kind_is_a_miss_and_is_overwritten(server: redis.Redis, other: RedisCache) -> None:
    """K3: otherwise every write would fail, and the breaker would stay open."""
    server.rpush("k", "a list")
    assert look(other, "k") == [None]
    put(other, "k", 1, "v")
    assert look(other, "k") == [(1, "v")]
    assert server.ttl("k") > 0


FOREIGN: dict[str, Callable[[redis.Redis], object]] = {
    "a byte too large": lambda server: server.set("k", "1 1.5 ".ljust(16_385, "x")),
    "3 MB": lambda server: server.setrange("k", 3_000_000, "x"),
    "300 MB": lambda server: server.setrange("k", 300_000_000, "x"),
    "a list": lambda server: server.rpush("k", *["x" * 100_000] * 30),
    "a hash": lambda server: server.hset("k", "a", "x" * 3_000_000),
    "a set": lambda server: server.sadd("k", "x" * 3_000_000),
    "a stream": lambda server: server.xadd("k", {"a": "x" * 3_000_000}),
}


@pytest.fixture
def events(other: RedisCache) -> list[str]:
    seen: list[str] = []
    other.on_event = seen.append
    return seen


@pytest.mark.parametrize("plant", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("has_lease", [True, False])
def test_a_foreign_value_is_removed_unread(
    server: redis.Redis,
    other: RedisCache,
    events: list[str],
    caplog: pytest.LogCaptureFixture,
    plant: Callable[[redis.Redis], object],
    has_lease: bool,
) -> None:
    """K3, V1: it would open the breaker at each read of one user. The other keys of the call are read as usual."""
    put(other, "j", 1, "before")
    put(other, "l", 1, "after")
    plant(server)
    lease = Lease.begin()
    assert look(other, "j", "k", "l", lease=lease if has_lease else None) == [(1, "before"), None, (1, "after")]
    assert server.get("k") == (lease.mark.encode() if has_lease else None)
    assert (events, other.ping()) == (["removed"], True)
    assert [(record.event, record.key) for record in caplog.records] == [("cache.removed", "k")]
    if has_lease:
        fill(other, "k", 1, "v", lease)
        assert look(other, "k") == [(1, "v")]


@pytest.mark.parametrize("plant", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_value_is_overwritten_unread(
    server: redis.Redis, other: RedisCache, events: list[str], plant: Callable[[redis.Redis], object]
) -> None:
    """K4, V1: whatever version it seems to have."""
    plant(server)
    assert other.put([("j", 1, "before"), ("k", 1, "v")], 60)
    assert look(other, "j", "k") == [(1, "before"), (1, "v")]
    assert (events, server.ttl("k") > 0) == (["removed"], True)
    server.delete("k")
    plant(server)
    fill(other, "k", 1, "of a lease that is gone")
    assert not server.exists("k")


def test_the_largest_entry_is_kept(server: redis.Redis, other: RedisCache, events: list[str]) -> None:
    """K3: no entry of this service comes near it."""
    server.set("k", f"1 {server.time()[0] + 60} ".ljust(16_384, "x"))
    assert look(other, "k")[0]
    assert events == []


def test_a_late_answer_is_never_taken_for_another_one(server: redis.Redis, proxy: Proxy) -> None:
    """K2: a connection that timed out is not used again."""
    keys = [f"user {number}" for number in range(50)]
    server.mset({key: key for key in keys})
    client = redis.Redis.from_url(proxy.url, decode_responses=True, **no_retries(0.03))
    held = HeldConnections(client.connection_pool)  # below the breaker, which would refuse most calls
    proxy.delay = lambda: random.choice([0, 0, 0, 0.02, 0.05])

    def ask(key: str) -> str | None:
        try:
            return held.execute_command("MGET", key)[0]
        except redis.TimeoutError:
            return None

    with ThreadPoolExecutor(8) as threads:
        answers = list(zip(keys * 20, threads.map(ask, keys * 20), strict=True))
    assert [pair for pair in answers if pair[1] not in (None, pair[0])] == []
    assert {None, "user 7"} <= {answer for _, answer in answers}  # some were in time, some were late


def test_after_one_failure_no_call_waits_for_redis(
    cache: RedisCache, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V1."""
    monkeypatch.setattr(redis_cache, "_PROBE_INTERVAL", 60)
    proxy.is_silent = True
    assert look(cache, "k") == [None]
    sent = proxy.commands
    assert look(cache, "k", "l") == [None, None]
    put(cache, "k", 1, "v")
    cache.forget("k")
    assert not cache.ping()
    assert proxy.commands == sent


def test_a_fill_needs_the_lease_of_its_miss(server: redis.Redis, other: RedisCache) -> None:
    """K4: a flush may have removed a newer entry than the row that was read before it."""
    lease, later = Lease.begin(), Lease.begin()
    assert look(other, "k", lease=lease) == [None]
    put(other, "k", 2, "new")
    server.flushdb()
    fill(other, "k", 1, "old", lease)
    assert look(other, "k", lease=later) == [None]
    fill(other, "k", 1, "old", lease)
    assert look(other, "k") == [None]
    fill(other, "k", 2, "new", later)
    assert look(other, "k") == [(2, "new")]


def test_a_fill_that_comes_late_is_refused(
    server: redis.Redis, other: RedisCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K4: otherwise it could arrive after the second in which rows read before an invalidation are not used."""
    put(other, "k", 1, "doubted")
    lease = Lease.begin()
    fill(other, "k", 1, "late", Lease(lease.mark, lease.end - 2))
    assert look(other, "k") == [(1, "doubted")]


def test_entries_of_one_user_go_in_one_round_trip(server: redis.Redis, cache: RedisCache, proxy: Proxy) -> None:
    """V1: a slow Redis causes one wait, however many sessions end."""
    look(cache, "warm")
    put(cache, "warm", 1, "so that the script is known")
    before = proxy.commands
    assert cache.put([(f"{{u:1}}:{number}", 1, "v") for number in range(100)], 60)
    assert proxy.commands - before == 1
    assert len(server.keys("{u:1}:*")) == 100


def test_a_redis_that_was_started_again_with_old_data_is_doubted() -> None:
    """R7, K5: also if this process sent no command during the outage."""
    with redis_server() as server:
        cache, other = RedisCache(server.url, 1), RedisCache(server.url, 1)
        put(cache, "session", 1, "live")
        assert look(other, "session") == [(1, "live")]
        with server.client as client:
            client.save()
        put(cache, "session", 2, "over")
        server.kill()
        server.start()
        with server.client as client:
            assert client.get("session").startswith("1 ")  # the second write is lost
        assert look(cache, "session") == look(other, "session") == [None]
        wait_until(cache.ping)
        assert look(cache, "session") == [None]


def test_what_was_stored_before_the_recovery_is_not_believed(
    cache: RedisCache, other: RedisCache, proxy: Proxy
) -> None:
    """K5: another process may have failed to replace it."""
    put(cache, "k", 1, "old")
    lose(cache, proxy)
    find_again(cache, proxy)
    assert look(cache, "k") == [None]
    put(other, "k", 1, "read again")
    assert look(cache, "k") == [(1, "read again")]


def test_redis_is_told_before_it_is_believed(
    cache: RedisCache, other: RedisCache, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K5: the first process that reaches Redis again does not read from it yet, but already sends its writes."""
    monkeypatch.setattr(redis_cache, "_SETTLING", 60)
    lose(cache, proxy)
    proxy.listen()
    wait_until(lambda: not cache._is_open)
    put(other, "k", 1, "old")  # like a command that waited in the socket of a frozen Redis
    assert look(cache, "k") == [None]
    put(cache, "k", 2, "new")
    assert look(other, "k") == [(2, "new")]
    assert not cache.ping()


def test_an_outage_while_it_settles_begins_it_anew(
    cache: RedisCache, other: RedisCache, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K5: the end of the settling of one outage does not end that of a later outage."""
    lose(cache, proxy)
    first = cache._trust_losses
    monkeypatch.setattr(redis_cache, "_SETTLING", 60)
    proxy.listen()
    wait_until(lambda: not cache._is_open)
    proxy.refuse()
    put(cache, "k", 2, "missed")
    assert cache._is_open
    proxy.listen()
    wait_until(lambda: not cache._is_open)
    cache._trust(first)
    assert not cache.ping()
    cache._trust(cache._trust_losses)
    assert cache.ping()


def test_redis_is_told_which_entries_were_overtaken(cache: RedisCache, other: RedisCache, proxy: Proxy) -> None:
    """K5, K7: before reads use Redis again; also for a process that did not notice the outage."""
    put(other, "session", 1, "live")
    lose(cache, proxy)
    put(cache, "session", 2, "over")
    find_again(cache, proxy)
    assert look(other, "session") == [None]
    fill(other, "session", 1, "live")
    assert look(other, "session") == [None]
    fill(other, "session", 2, "over")
    assert look(cache, "session") == [(2, "over")]


def test_what_a_process_wrote_long_ago_does_not_come_back_as_new(
    cache: RedisCache, other: RedisCache, proxy: Proxy
) -> None:
    """K4: when Redis is back, other processes may have written later versions, and may still be cut off."""
    lose(cache, proxy)
    put(cache, "k", 2, "overtaken meanwhile")
    fill(cache, "l", 1, "overtaken meanwhile")
    find_again(cache, proxy)
    assert look(cache, "k", "l") == [None, None]
    assert look(other, "k", "l") == [None, None]


def test_a_later_write_of_another_process_outlives_the_recovery(
    cache: RedisCache, other: RedisCache, proxy: Proxy
) -> None:
    """K4."""
    lose(cache, proxy)
    put(cache, "k", 2, "mine")
    put(other, "k", 3, "theirs")
    find_again(cache, proxy)
    assert look(other, "k") == [(3, "theirs")]


def test_readers_do_not_push_out_what_redis_must_be_told(
    cache: RedisCache, other: RedisCache, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K7: reads during an outage do not displace a pending logout, however many they are."""
    monkeypatch.setattr(redis_cache, "_MAX_PENDING", 3)
    put(other, "session", 1, "live")
    lose(cache, proxy)
    put(cache, "session", 2, "over")
    for number in range(10):
        fill(cache, f"reader {number}", 1, "v")
    find_again(cache, proxy)
    assert look(other, "session") == [None]


def test_what_redis_must_be_told_is_bounded(
    cache: RedisCache, other: RedisCache, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K5: beyond the bound, the oldest entry expires by its TTL."""
    monkeypatch.setattr(redis_cache, "_MAX_PENDING", 3)
    for key in "abcd":
        put(other, key, 1, key)
    lose(cache, proxy)
    for key in "abcd":
        put(cache, key, 2, key)
    find_again(cache, proxy)
    assert look(other, *list("abcd")) == [(1, "a"), None, None, None]


def test_nobody_waits_while_redis_is_told(other: RedisCache, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """V1: a write during the replay is replayed as well, before the breaker closes."""
    monkeypatch.setattr(redis_cache, "_PROBE_INTERVAL", 0.05)
    monkeypatch.setattr(redis_cache, "_SETTLING", 0.05)
    cache = RedisCache(proxy.url, 10)
    lose(cache, proxy)
    put(cache, "k", 2, "v")
    telling = proxy.hold(b"EVALSHA")
    proxy.listen()
    assert telling.reached.wait(10)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(put, cache, "l", 2, "v").result(timeout=5)
        assert not cache.ping()
        telling.release()
    wait_until(cache.ping)
    put(other, "l", 1, "old")
    assert look(other, "l") == [None]
