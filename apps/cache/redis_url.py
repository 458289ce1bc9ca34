"""The forms of `REDIS_URL`, and a client for each.

    redis://:password@host:6379/0             one server; rediss:// with TLS, unix:///path?db=0 by socket
    redis+sentinel://h1:26379,h2:26379/name   the current primary, as the Sentinels name it
    redis+cluster://h1:7000,h2:7000           a cluster, found through any node that answers

A password before the @ applies to the servers and to the Sentinels. Spellings of managed servers become those of
redis-py: `valkey://`, `?ssl=true`, `?ssl_cert_reqs=CERT_NONE`.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException
from redis.retry import Retry
from redis.sentinel import Sentinel

from apps.store_url import InvalidUrl, UrlOption, check_options, flag, passwords, pop_seconds

_SEVERAL_SERVERS = re.compile(
    r"redis\+(?P<kind>sentinel|cluster)://(?:(?P<user>[^:@/]*):(?P<password>[^@/]*)@)?"
    r"(?P<hosts>[^/:,@]+:\d{1,5}(?:,[^/:,@]+:\d{1,5})*)(?:/(?P<name>[A-Za-z0-9._-]+))?"
)
FORMS = "redis://:password@host:6379/0, rediss://, unix://, redis+sentinel://h1:26379,h2:26379/name or redis+cluster://h:7000"


FAILURES = (redis.RedisError, RedisClusterException)  # RedisClusterException is not a RedisError


@dataclass(frozen=True, slots=True)
class Servers:
    """The parts of a Sentinel or cluster URL."""

    kind: str
    name: str  # of the primary, for the Sentinels
    hosts: list[tuple[str, int]]
    login: dict[str, str]


# Options that redis-py takes, but whose values the service depends on.
_SET_BY_SERVICE = frozenset(
    {
        *("decode_responses", "encoding", "encoding_errors", "health_check_interval", "legacy_responses"),
        *("max_connections", "parser_class", "retry", "retry_on_error", "retry_on_timeout", "socket_read_size"),
        *("socket_type", "timeout", "host", "port", "path", "self", "kwargs"),
    }
)


def parse(text: str) -> tuple[str, list[UrlOption]]:
    """Return the URL in the words of redis-py, and the options that stand for a setting. Raises `InvalidUrl`."""
    text = re.sub(r"^valkey(s?)://", r"redis\1://", text)
    if not is_redis_url(text):
        raise InvalidUrl(f"must look like {FORMS}")
    if text.startswith("redis+"):
        return text, []
    parts = urlsplit(text)
    given = parse_qs(parts.query, keep_blank_values=True)
    if any(len(values) > 1 for values in given.values()):
        raise InvalidUrl("contains an option twice")
    options = {name: values[0] for name, values in given.items()}
    scheme = _scheme_of(parts.scheme, options)
    known = _known_options(scheme)
    check_options(options, known, _SET_BY_SERVICE & known)
    implied = [
        option
        for name in ("socket_timeout", "socket_connect_timeout")
        for option in pop_seconds(options, name, "REDIS_TIMEOUT")
    ]
    if len({option.seconds for option in implied}) > 1:
        raise InvalidUrl("the options socket_timeout and socket_connect_timeout contradict each other")
    if scheme != "unix" and not re.fullmatch(r"/?\d{0,9}", parts.path):
        raise InvalidUrl("the path must be the number of a database, such as /0")
    address = text.partition("?")[0].partition("://")[2]
    plain = f"{scheme}://{address}" + (f"?{urlencode(options)}" if options else "")
    try:
        redis.ConnectionPool.from_url(plain).make_connection()
    except (TypeError, ValueError, redis.RedisError):
        raise InvalidUrl("an option has a value that the driver refuses") from None
    return plain, implied


def is_redis_url(url: str) -> bool:
    """Return True if `url` has one of the forms."""
    if url.startswith("redis+"):
        servers = _parse(url)
        return servers is not None and (servers.kind == "sentinel") == bool(servers.name)
    try:
        parts = urlsplit(url)
        is_socket = parts.scheme == "unix"
        is_address = parts.scheme in ("redis", "rediss") and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    return is_address or (is_socket and not parts.hostname and len(parts.path) > 1)


def _scheme_of(scheme: str, options: dict[str, str]) -> str:
    """Return the scheme that an option `ssl` or `tls` asks for, and take these options out."""
    wanted = {flag(name, options.pop(name)) for name in ("ssl", "tls") if name in options}
    if wanted and (len(wanted) > 1 or scheme == "unix" or (wanted == {False} and scheme == "rediss")):
        raise InvalidUrl("the option ssl contradicts the beginning of the URL")
    if "ssl_cert_reqs" in options:
        options["ssl_cert_reqs"] = options["ssl_cert_reqs"].lower().removeprefix("cert_")
    return "rediss" if wanted == {True} else scheme


def _known_options(scheme: str) -> set[str]:
    """Return the names that redis-py's connection takes for this scheme."""
    kind = {"rediss": redis.SSLConnection, "unix": redis.UnixDomainSocketConnection}.get(scheme, redis.Connection)
    names = {name for base in kind.__mro__[:-1] for name in inspect.signature(base).parameters}
    return {*names, "max_connections", "timeout"}


def passwords_of(text: str) -> list[str]:
    """Return the password and the secret options of a URL that `parse` returned."""
    match = _SEVERAL_SERVERS.fullmatch(text)
    url = urlsplit(text)
    password = match["password"] if match else url.password
    options = {name: values[0] for name, values in parse_qs(url.query).items()}
    return [*([unquote(password)] if password else []), *passwords(options)]


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

    servers = _parse(url)
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


def _parse(url: str) -> Servers | None:
    match = _SEVERAL_SERVERS.fullmatch(url)
    if match is None:
        return None
    hosts = [(name, int(port)) for name, port in (host.split(":") for host in match["hosts"].split(","))]
    login = {"username": match["user"], "password": match["password"]}
    return Servers(
        match["kind"], match["name"] or "", hosts, {key: unquote(text) for key, text in login.items() if text}
    )
