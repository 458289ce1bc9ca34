"""Connections that are held from one round trip to the next."""

import os
import socket
import ssl
import time
from collections.abc import Iterator
from importlib.metadata import version

import pytest
import redis

from apps.utils.redis_connections import HeldConnections, _time_by_kernel
from apps.utils.redis_url import no_retries
from tests.faults import redis_server
from tests.support import stores
from tests.support.proxy import Proxy, through_proxy

TIMEOUT = 0.1  # seconds


@pytest.fixture
def proxy(server: redis.Redis) -> Iterator[Proxy]:
    with through_proxy(stores.cache_url("redis")) as (proxy, url):
        proxy.url = url
        yield proxy


def hold(url: str) -> HeldConnections:
    pool = redis.ConnectionPool.from_url(url, decode_responses=True, **no_retries(TIMEOUT))
    return HeldConnections(pool, TIMEOUT)


def test_the_socket_is_where_redis_8_1_keeps_it() -> None:
    """`_sock` is not public: with another version, look whether it is still there, then write its number here."""
    assert version("redis").startswith("8.1.")
    with redis_server() as own:
        held = hold(own.url)
        held.ask("PING")
        assert isinstance(held._idle[0]._sock, socket.socket)


def test_a_late_answer_is_nobodys(proxy: Proxy) -> None:
    """K2."""
    held = hold(proxy.url)
    held.ask("SET", "k", "mine")
    proxy.delay = lambda: TIMEOUT * 1.5
    with pytest.raises(redis.TimeoutError):
        held.ask("GET", "k")
    proxy.delay = lambda: 0.0
    assert held.ask("ECHO", "another's") == "another's"


def test_one_connection_serves_one_request_after_the_other(server: redis.Redis) -> None:
    held = hold(stores.cache_url("redis"))
    first = held._take()[0]
    held._give_back(first, is_good=True)
    assert held.ask("PING") == "PONG"
    assert list(held._idle) == [first]


def test_a_connection_that_was_closed_meanwhile_costs_no_answer() -> None:
    """V1: as after the `timeout` of the server, or a restart of it."""
    with redis_server() as own:
        held = hold(own.url)
        both = [held._take()[0] for _ in range(2)]
        for connection in both:
            held._give_back(connection, is_good=True)
        own.client.client_kill_filter(skipme=True)
        assert held.ask("PING") == "PONG"
        assert len(held._idle) == 1


def test_what_is_not_there_is_told_at_once(proxy: Proxy) -> None:
    """V1."""
    held = hold(proxy.url)
    held.ask("PING")
    proxy.refuse()
    with pytest.raises(redis.ConnectionError):
        held.ask("PING")


def test_no_answer_is_waited_for_longer_than_the_timeout() -> None:
    """V1, F16: nor once more on another connection."""
    with redis_server() as own:
        held = hold(own.url)
        both = [held._take()[0] for _ in range(2)]
        for connection in both:
            held._give_back(connection, is_good=True)
        own.freeze()
        started = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            held.ask("PING")
        assert TIMEOUT * 0.9 <= time.monotonic() - started < TIMEOUT * 2
        assert len(held._idle) == 1


def test_an_error_ends_the_connection_but_for_a_script_that_is_new(server: redis.Redis) -> None:
    """What takes no writes any more may be another server than the name now stands for."""
    held = hold(stores.cache_url("redis"))
    with pytest.raises(redis.exceptions.NoScriptError):
        held.ask("EVALSHA", "0" * 40, 0)
    assert len(held._idle) == 1
    with pytest.raises(redis.ResponseError):
        held.ask("NOTHING")
    assert len(held._idle) == 0


def test_tls_keeps_its_own_timeout() -> None:
    """V1: Python begins a read over TLS again, when the kernel ends it, for as long as the socket is blocking."""
    one, other = socket.socketpair()
    with (
        other,
        ssl.create_default_context().wrap_socket(
            one, server_hostname="redis", do_handshake_on_connect=False
        ) as over_tls,
    ):
        over_tls.settimeout(TIMEOUT)
        _time_by_kernel(over_tls, TIMEOUT)
        assert over_tls.gettimeout() == TIMEOUT


def test_a_socket_that_the_kernel_never_waits_on_keeps_its_own_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """V1: gevent's, which are not blocking whatever Python calls them."""
    monkeypatch.setattr(os, "get_blocking", lambda _descriptor: False)
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(TIMEOUT)
        _time_by_kernel(one, TIMEOUT)
        assert one.gettimeout() == TIMEOUT
