"""A client of redis-py for each form of `REDIS_URL`.

    redis://:password@host:6379/0             one server; rediss:// with TLS, unix:///path?db=0 by socket
    redis+sentinel://h1:26379,h2:26379/name   the current primary, as the Sentinels name it
    redis+cluster://h1:7000,h2:7000           a cluster, found through any node that answers

A password before the @ applies to the servers and to the Sentinels. apps/settings/redis_url.py checks the URL.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException
from redis.retry import Retry
from redis.sentinel import Sentinel

_SEVERAL_SERVERS = re.compile(
    r"redis\+(?P<kind>sentinel|cluster)://(?:(?P<user>[^:@/]*):(?P<password>[^@/]*)@)?"
    r"(?P<hosts>[^/:,@]+:\d{1,5}(?:,[^/:,@]+:\d{1,5})*)(?:/(?P<name>[A-Za-z0-9._-]+))?"
)
FAILURES = (redis.RedisError, RedisClusterException)  # RedisClusterException is not a RedisError


@dataclass(frozen=True, slots=True)
class Servers:
    """The parts of a Sentinel or cluster URL."""

    kind: str
    name: str  # of the primary, for the Sentinels
    hosts: list[tuple[str, int]]
    login: dict[str, str]


def parse_servers(url: str) -> Servers | None:
    """Return the parts of a Sentinel or cluster URL, or None if `url` is no such URL."""
    match = _SEVERAL_SERVERS.fullmatch(url)
    if match is None:
        return None
    hosts = [(name, int(port)) for name, port in (host.split(":") for host in match["hosts"].split(","))]
    login = {"username": match["user"], "password": match["password"]}
    return Servers(
        match["kind"], match["name"] or "", hosts, {key: unquote(text) for key, text in login.items() if text}
    )


def no_retries(timeout: float) -> dict[str, Any]:
    """Return client options that limit each call to `timeout` seconds; with the defaults a call can take a minute."""
    return {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": Retry(NoBackoff(), 0)}


def connect(url: str, timeout: float, on_connect: Callable[[Any], None], **options: Any) -> Any:
    """Return a client for `url` that calls `on_connect` with each new connection.

    A cluster client queries its nodes at once. Raises one of `FAILURES`.
    """

    def initialize(connection: Any) -> None:
        connection.on_connect()  # redis_connect_func replaces this call of redis-py
        on_connect(connection)

    servers = parse_servers(url)
    if servers is None:
        return redis.Redis.from_url(url, redis_connect_func=initialize, **options, **no_retries(timeout))
    login: dict[str, Any] = servers.login | no_retries(timeout)
    if servers.kind == "cluster":
        nodes = [ClusterNode(*host) for host in servers.hosts]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=nodes, redis_connect_func=on_connect, **login, **options)
    sentinel = Sentinel(servers.hosts, sentinel_kwargs=login, **login, **options)  # type: ignore[no-untyped-call]
    return sentinel.master_for(servers.name, redis_connect_func=initialize)  # type: ignore[no-untyped-call]


def times_of(client: Any) -> list[float]:
    """Return the time of each primary of `client`, in seconds since 1970. Raises one of `FAILURES`."""
    of_each = client.time(target_nodes=RedisCluster.PRIMARIES) if isinstance(client, RedisCluster) else client.time()
    times: list[tuple[int, int]] = list(of_each.values()) if isinstance(of_each, dict) else [of_each]
    return [seconds + microseconds / 1e6 for seconds, microseconds in times]


def storage_url(url: str) -> str:
    """Return `url` in the form that the library `limits` reads."""
    return url.replace("unix://", "redis+unix://", 1)
