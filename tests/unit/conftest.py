"""The test Redis, for tests without an application."""

from collections.abc import Iterator

import pytest
import redis

from apps.cache.redis import RedisCache
from tests.support import stores


@pytest.fixture
def server() -> Iterator[redis.Redis]:
    """This worker's own, empty database in the test Redis."""
    if not stores.server_url("redis"):
        pytest.skip("no redis here")
    with redis.Redis.from_url(stores.cache_url("redis")) as server:
        server.flushdb()
        yield server
        server.flushdb()


@pytest.fixture
def other(server: redis.Redis) -> RedisCache:
    """The store of another process, which can always reach Redis."""
    return RedisCache(stores.cache_url("redis"), 1)
