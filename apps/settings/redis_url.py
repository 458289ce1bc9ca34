"""Check `REDIS_URL`, and translate the spellings of managed servers for redis-py.

For example `valkey://`, `?ssl=true` and `?ssl_cert_reqs=CERT_NONE`. No message of this module contains a value of the
URL.
"""

import inspect
import os
import re
from urllib.parse import SplitResult, parse_qs, unquote, urlencode, urlsplit

import redis

from apps.cache.redis_client import parse_servers
from apps.settings.url_options import (
    InvalidUrl,
    UrlOption,
    check_once,
    check_options,
    parse_flag,
    pop_seconds,
    secret_values,
)

_FORMS = (
    "redis://:password@host:6379/0, rediss://, unix://, redis+sentinel://h1:26379,h2:26379/name or "
    "redis+cluster://h:7000"
)

# The options of redis-py that a string can express and that the service does not set.
_OPTIONS = frozenset(
    {
        *("username", "password", "db", "client_name", "lib_name", "lib_version", "protocol"),
        *("socket_keepalive", "socket_timeout", "socket_connect_timeout"),
        *("ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_ca_path"),
        *("ssl_certfile", "ssl_keyfile", "ssl_password"),
    }
)
_FLAGS = ("socket_keepalive", "ssl_check_hostname")
_FILE_OPTIONS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")


def parse(text: str) -> tuple[str, list[UrlOption]]:
    """Return the URL as redis-py reads it, and the options that stand for a setting. Raises `InvalidUrl`."""
    text = re.sub(r"^valkey(s?)://", r"redis\1://", text)
    if not is_redis_url(text):
        raise InvalidUrl(f"must look like {_FORMS}")
    if text.startswith("redis+"):
        return text, []
    parts = urlsplit(text)
    options = _options(parts.query)
    scheme = _scheme_of(parts.scheme, options)
    _check_options(options, scheme, parts)
    timeouts = _pop_timeouts(options)
    if scheme != "unix" and not re.fullmatch(r"/?\d{0,9}", parts.path):
        raise InvalidUrl("the path must be the number of a database, such as /0")
    address = text.partition("?")[0].partition("://")[2]
    url = f"{scheme}://{address}" + (f"?{urlencode(options)}" if options else "")
    _check_values(url)
    return url, timeouts


def _check_options(options: dict[str, str], scheme: str, parts: SplitResult) -> None:
    """Raise `InvalidUrl` for an option that redis-py or the service cannot use."""
    known = _known_options(scheme)
    check_options(options, known, known - _OPTIONS)
    number = "" if scheme == "unix" else parts.path.strip("/")
    check_once(options, {"username": parts.username, "password": parts.password, "db": number})
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise InvalidUrl("the option ssl_keyfile needs ssl_certfile")
    for name in set(_FLAGS) & set(options):
        parse_flag(name, options[name])


def unreadable_files(text: str) -> list[str]:
    """Return the names of the options whose file this process cannot read, for a URL that `parse` returned."""
    options = _options(urlsplit(text).query)
    return [name for name in _FILE_OPTIONS if name in options and not os.access(options[name], os.R_OK)]


def is_redis_url(url: str) -> bool:
    """Return True if `url` has one of the forms."""
    if url.startswith("redis+"):
        servers = parse_servers(url)
        return (
            servers is not None
            and (servers.kind == "sentinel") == bool(servers.name)
            and all(0 < port < 65_536 for _, port in servers.hosts)
        )
    try:
        parts = urlsplit(url)
        is_socket = parts.scheme == "unix"
        is_address = parts.scheme in ("redis", "rediss") and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    return is_address or (is_socket and not parts.hostname and len(parts.path) > 1)


def passwords_of(text: str) -> list[str]:
    """Return the password and the secret options of a URL that `parse` returned."""
    url, servers = urlsplit(text), parse_servers(text)
    password = servers.login.get("password") if servers else unquote(url.password or "")
    return [*([password] if password else []), *secret_values(_options(url.query))]


def _options(query: str) -> dict[str, str]:
    """Return the options of a query string. Raises `InvalidUrl` if one of them is repeated."""
    given = parse_qs(query, keep_blank_values=True)
    if any(len(values) > 1 for values in given.values()):
        raise InvalidUrl("contains an option twice")
    return {name: values[0] for name, values in given.items()}


def _scheme_of(scheme: str, options: dict[str, str]) -> str:
    """Return the scheme that an option `ssl` or `tls` asks for. Remove these options."""
    wanted = {parse_flag(name, options.pop(name)) for name in ("ssl", "tls") if name in options}
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


def _pop_timeouts(options: dict[str, str]) -> list[UrlOption]:
    """Remove the timeouts from `options` and return them. Raises `InvalidUrl` if they differ."""
    names = ("socket_timeout", "socket_connect_timeout")
    timeouts = [timeout for name in names for timeout in pop_seconds(options, name, "REDIS_TIMEOUT")]
    if len({timeout.seconds for timeout in timeouts}) > 1:
        raise InvalidUrl("the options socket_timeout and socket_connect_timeout contradict each other")
    return timeouts


def _check_values(url: str) -> None:
    """Let redis-py check the values of the options. Raises `InvalidUrl`."""
    try:
        redis.ConnectionPool.from_url(url).make_connection()
    except (TypeError, ValueError, redis.RedisError):
        raise InvalidUrl("an option has a value that the driver refuses") from None
