"""`REDIS_URL` in all its forms, and the client for each.

    redis://:password@host:6379/0             one server; rediss:// over TLS, unix:///path?db=0 by a socket
    redis+sentinel://h1:26379,h2:26379/name   the primary that the Sentinels name, wherever a failover puts it
    redis+cluster://h1:7000,h2:7000           a cluster; one node that answers is enough to find the others

A password before the @ is that of the servers and of the Sentinels.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import parse_url
from redis.exceptions import RedisClusterException
from redis.retry import Retry
from redis.sentinel import Sentinel

_MANY = re.compile(
    r"redis\+(?P<kind>sentinel|cluster)://(?:(?P<user>[^:@/]*):(?P<password>[^@/]*)@)?"
    r"(?P<hosts>[^/:,@]+:\d{1,5}(?:,[^/:,@]+:\d{1,5})*)(?:/(?P<name>[A-Za-z0-9._-]+))?"
)
FORMS = "redis://:password@host:6379/0, rediss://, unix://, redis+sentinel://h1:26379,h2:26379/name or redis+cluster://h:7000"


FAILURES = (redis.RedisError, RedisClusterException)  # of the two the second is no RedisError


@dataclass(frozen=True, slots=True)
class Servers:
    """What a URL of several servers says."""

    kind: str
    name: str  # that the Sentinels know the primary by
    hosts: list[tuple[str, int]]
    login: dict[str, str]


def is_redis_url(url: str) -> bool:
    """Whether `url` can be read."""
    if url.startswith("redis+"):
        servers = _parse(url)
        return servers is not None and (servers.kind == "sentinel") == bool(servers.name)
    try:
        parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:
        return False
    return True


def no_retries(timeout: float) -> dict[str, Any]:
    """Return the options of a client whose every call is bounded by `timeout` seconds; the defaults wait a minute."""
    return {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": Retry(NoBackoff(), 0)}


def connect(url: str, timeout: float, meet: Callable[[Any], None], **options: Any) -> Any:
    """Return a client for `url` that calls `meet` with each new connection; a cluster is asked for its nodes at once.

    Raises one of `FAILURES`.
    """

    def greet(connection: Any) -> None:
        connection.on_connect()  # the library's own greeting, which this one replaces
        meet(connection)

    servers = _parse(url)
    if servers is None:
        return redis.Redis.from_url(url, redis_connect_func=greet, **options, **no_retries(timeout))
    login: dict[str, Any] = servers.login | no_retries(timeout)
    if servers.kind == "cluster":
        nodes = [ClusterNode(*host) for host in servers.hosts]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=nodes, redis_connect_func=meet, **login, **options)
    sentinel = Sentinel(servers.hosts, sentinel_kwargs=login, **login, **options)  # type: ignore[no-untyped-call]
    return sentinel.master_for(servers.name, redis_connect_func=greet)  # type: ignore[no-untyped-call]


def times_of(client: Any) -> list[float]:
    """Return the clock of each primary behind `client`, in seconds since 1970. Raises one of `FAILURES`."""
    of_each = client.time(target_nodes=RedisCluster.PRIMARIES) if isinstance(client, RedisCluster) else client.time()
    times: list[tuple[int, int]] = list(of_each.values()) if isinstance(of_each, dict) else [of_each]
    return [seconds + microseconds / 1e6 for seconds, microseconds in times]


def storage_url(url: str) -> str:
    """Return `url` as the library `limits` writes it."""
    return url.replace("unix://", "redis+unix://", 1)


def _parse(url: str) -> Servers | None:
    match = _MANY.fullmatch(url)
    if match is None:
        return None
    hosts = [(name, int(port)) for name, port in (host.split(":") for host in match["hosts"].split(","))]
    login = {"username": match["user"], "password": match["password"]}
    return Servers(
        match["kind"], match["name"] or "", hosts, {key: unquote(text) for key, text in login.items() if text}
    )
