"""The promises of both cache stores, Redis and memory."""

import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.cache import memory as memory_cache
from apps.cache.redis import RedisCache
from apps.cache.store import TOMBSTONE_VERSION, Store
from tests.support import stores
from tests.support.cache import fill, look, put


@pytest.fixture(params=["memory", "redis"])
def place(request: pytest.FixtureRequest) -> Store:
    """An empty store of each kind."""
    if request.param == "memory":
        return stores.memory_cache()
    request.getfixturevalue("server")
    return RedisCache(stores.cache_url("redis"), 1)


def test_an_older_version_never_replaces_a_later_one(place: Store) -> None:
    """K4: a slow reader stores the row that it read before a write."""
    put(place, "k", 2, "new")
    put(place, "k", 1, "old")
    fill(place, "k", 1, "old")
    assert look(place, "k", "none") == [(2, "new"), None]


def test_an_entry_without_a_value_is_a_miss_that_keeps_older_versions_out(place: Store) -> None:
    """K4: as a commit without an answer leaves it."""
    put(place, "k", 1, "old")
    put(place, "k", 2, "")
    assert look(place, "k") == [None]
    fill(place, "k", 1, "old")
    assert look(place, "k") == [None]
    fill(place, "k", 2, "new")
    assert look(place, "k") == [(2, "new")]


def test_nothing_replaces_a_tombstone(place: Store) -> None:
    """K4: a slow reader stores a row that was deleted meanwhile."""
    put(place, "k", TOMBSTONE_VERSION, "gone")
    fill(place, "k", TOMBSTONE_VERSION - 1, "old")
    assert look(place, "k") == [(TOMBSTONE_VERSION, "gone")]


@given(versions=st.lists(st.integers(1, TOMBSTONE_VERSION), min_size=1, max_size=12))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_version_of_an_entry_never_falls(place: Store, versions: list[int]) -> None:
    """K4."""
    key = str(uuid.uuid4())
    for number, version in enumerate(versions, start=1):
        put(place, key, version, f"of {version}")
        latest = max(versions[:number])
        assert look(place, key) == [(latest, f"of {latest}")]


def test_of_racing_writers_the_latest_version_stays(place: Store) -> None:
    """K4."""
    versions = random.sample(range(1, 301), 300)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda version: put(place, "k", version, str(version)), versions))
    assert look(place, "k") == [(300, "300")]


def test_an_entry_ends_with_its_time(place: Store) -> None:
    """K3."""
    put(place, "k", 1, "v", 0.05)
    assert look(place, "k") == [(1, "v")]
    time.sleep(0.06)
    assert look(place, "k") == [None]


def test_a_dropped_entry_is_a_miss(place: Store) -> None:
    put(place, "k", 5, "v")
    place.forget("k")
    assert look(place, "k") == [None]
    put(place, "k", 1, "v")
    assert look(place, "k") == [(1, "v")]


def test_the_memory_of_a_process_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_cache, "_MAX_ENTRIES", 2)
    place = stores.memory_cache()
    for key in "abc":
        put(place, key, 1, key)
    assert look(place, "a", "b", "c") == [None, (1, "b"), (1, "c")]
