"""Connections to Redis that are kept between commands."""

import os
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import pytest
import redis

from apps.cache.redis import RedisCache
from apps.cache.redis_client import no_retries
from apps.cache.redis_pool import HeldConnections, _use_kernel_timeout
from tests.faults import RedisServer, redis_server, wait_until
from tests.support.cache import look, put
from tests.support.proxy import Proxy, through_proxy

TIMEOUT = 0.1  # seconds
CHECKED_VERSION = "8.1"  # the minor version of redis-py whose private parts were checked
PRIVATE_PARTS = """\
- `Connection._sock` is the socket of an open connection
- a `ConnectionError` for a socket that timed out in the kernel has a `BlockingIOError` as its `__context__`
- `ConnectionPool.get_connection()` returns an open connection, and `release()` takes back a disconnected one
- `ConnectionPool._in_use_connections` is the set of connections that were not released (only in this test)"""


@pytest.fixture
def own() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def proxy(own: RedisServer) -> Iterator[Proxy]:
    with through_proxy(own.url) as (proxy, url):
        proxy.url = url
        yield proxy


def hold(url: str, count: int = 0) -> HeldConnections:
    """Return a client that already keeps `count` connections."""
    client = HeldConnections(redis.ConnectionPool.from_url(url, decode_responses=True, **no_retries(TIMEOUT)))
    client._idle.extend(client._connect() for _ in range(count))
    return client


def test_redis_py_has_the_minor_version_whose_private_parts_were_checked() -> None:
    installed = version("redis")
    assert installed.startswith(f"{CHECKED_VERSION}."), (
        f"redis-py {installed} is installed, but apps/cache/redis_pool.py was checked with {CHECKED_VERSION}. Check "
        f"these private parts, then change CHECKED_VERSION here and the comment in requirements.in:\n{PRIVATE_PARTS}"
    )


def test_the_socket_is_where_redis_8_1_keeps_it(own: RedisServer) -> None:
    """`Connection._sock` is private; without it, kernel timeouts are impossible (decision 0013)."""
    assert isinstance(hold(own.url, 1)._idle[0]._sock, socket.socket)


def test_one_connection_serves_one_command_after_the_other(own: RedisServer) -> None:
    client = hold(own.url, 1)
    first = client._idle[0]
    assert client.execute_command("PING") == "PONG"
    assert list(client._idle) == [first]


def test_connections_that_were_closed_meanwhile_cost_no_answer(own: RedisServer) -> None:
    """V1: as after the `timeout` of the server, or its restart."""
    client = hold(own.url, 3)
    own.client.client_kill_filter(skipme=True)
    assert client.execute_command("PING") == "PONG"
    assert len(client._idle) == 1
    assert len(client._pool._in_use_connections) == 1  # the others were released to the pool


def test_what_is_not_there_is_told_at_once(proxy: Proxy) -> None:
    """V1."""
    client = hold(proxy.url, 3)
    proxy.refuse()
    with pytest.raises(redis.ConnectionError):
        client.execute_command("PING")
    assert client._pool._in_use_connections == set()


def test_no_answer_is_waited_for_longer_than_the_timeout(own: RedisServer) -> None:
    """V1: and the command is not sent again over another connection."""
    client = hold(own.url, 3)
    own.freeze()
    started = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        client.execute_command("PING")
    assert TIMEOUT * 0.9 <= time.monotonic() - started < TIMEOUT * 2
    own.thaw()


def test_connections_that_break_one_after_the_other_do_not_add_up(proxy: Proxy) -> None:
    """V1: as behind a slow balancer whose server is gone: two tries, however many connections are kept."""
    client = hold(proxy.url, 5)
    sent = proxy.commands
    proxy.delay = lambda: proxy.cut() or 0.0
    with pytest.raises(redis.RedisError):
        client.execute_command("PING")
    assert proxy.commands - sent == 2


def test_a_late_answer_is_nobodys(proxy: Proxy) -> None:
    """K2."""
    client = hold(proxy.url)
    client.execute_command("SET", "k", "mine")
    proxy.delay = lambda: TIMEOUT * 1.5
    with pytest.raises(redis.TimeoutError):
        client.execute_command("GET", "k")
    proxy.delay = lambda: 0.0
    assert client.execute_command("ECHO", "another's") == "another's"


def test_an_error_ends_the_connection_but_for_a_script_that_is_new(own: RedisServer) -> None:
    """A server that refuses writes may no longer be the primary of that name."""
    client = hold(own.url)
    with pytest.raises(redis.exceptions.NoScriptError):
        client.execute_command("EVALSHA", "0" * 40, 0)
    assert len(client._idle) == 1
    with pytest.raises(redis.ResponseError):
        client.execute_command("NOTHING")
    assert len(client._idle) == 0


def test_a_connection_under_way_is_not_kept_over_a_drop(proxy: Proxy) -> None:
    """K4: it may lead to the previous primary, which still answers."""
    client = hold(proxy.url, 1)
    held = proxy.hold(b"ECHO")
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(client.execute_command, "ECHO", "the last")
        held.reached.wait()
        client.drop()
        held.release()
        assert answer.result() == "the last"
    assert len(client._idle) == 0
    assert client._pool._in_use_connections == set()


def test_a_forked_process_does_not_share_them(own: RedisServer) -> None:
    """K2: two processes on one socket would read each other's answers."""
    client = hold(own.url, 1)
    child = os.fork()
    if child == 0:
        right = all(client.execute_command("ECHO", f"child {number}") == f"child {number}" for number in range(500))
        os._exit(0 if right else 1)
    right = all(client.execute_command("ECHO", f"parent {number}") == f"parent {number}" for number in range(500))
    assert (right, os.waitpid(child, 0)[1]) == (True, 0)


def test_the_cache_needs_no_more_connections_than_it_keeps(own: RedisServer) -> None:
    """V1: kept connections would leave none for other commands of the cache."""
    client = own.client
    address = f"{own.url}?max_connections=1"
    cache = RedisCache(address, TIMEOUT)
    assert put(cache, "k", 1, "v")
    client.client_kill_filter(skipme=True)
    cache.invalidate_all("a test")
    wait_until(cache.ping)
    assert put(cache, "k", 2, "w")
    assert look(cache, "k") == [(2, "w")]
    cache.forget("k")
    assert look(cache, "k") == [None]


def test_tls_keeps_its_own_timeout() -> None:
    """V1: on a blocking socket, Python restarts a TLS read that the kernel timed out."""
    one, other = socket.socketpair()
    context = ssl.create_default_context()
    with other, context.wrap_socket(one, server_hostname="redis", do_handshake_on_connect=False) as over_tls:
        over_tls.settimeout(TIMEOUT)
        _use_kernel_timeout(over_tls)
        assert over_tls.gettimeout() == TIMEOUT


def test_a_socket_that_the_kernel_never_waits_on_keeps_its_own_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """V1: sockets of gevent never block, whatever Python reports."""
    monkeypatch.setattr(os, "get_blocking", lambda _descriptor: False)
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(TIMEOUT)
        _use_kernel_timeout(one)
        assert one.gettimeout() == TIMEOUT
