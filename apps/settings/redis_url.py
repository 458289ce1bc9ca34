"""Check `REDIS_URL`, and translate the spellings of managed servers for redis-py.

For example `valkey://`, `?ssl=true` and `?ssl_cert_reqs=CERT_NONE`. No message of this module contains a value of the
URL.
"""

import inspect
import re
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import redis

from apps.cache.redis_client import parse_servers
from apps.settings.url_options import InvalidUrl, UrlOption, check_options, parse_flag, pop_seconds, secret_values

_FORMS = (
    "redis://:password@host:6379/0, rediss://, unix://, redis+sentinel://h1:26379,h2:26379/name or "
    "redis+cluster://h:7000"
)

# Options that redis-py takes, but whose values the service depends on.
_SET_BY_SERVICE = frozenset(
    {
        *("decode_responses", "encoding", "encoding_errors", "health_check_interval", "legacy_responses"),
        *("max_connections", "parser_class", "retry", "retry_on_error", "retry_on_timeout", "socket_read_size"),
        *("socket_type", "timeout", "host", "port", "path", "self", "kwargs"),
    }
)


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
    known = _known_options(scheme)
    check_options(options, known, _SET_BY_SERVICE & known)
    timeouts = _pop_timeouts(options)
    if scheme != "unix" and not re.fullmatch(r"/?\d{0,9}", parts.path):
        raise InvalidUrl("the path must be the number of a database, such as /0")
    address = text.partition("?")[0].partition("://")[2]
    url = f"{scheme}://{address}" + (f"?{urlencode(options)}" if options else "")
    _check_values(url)
    return url, timeouts


def is_redis_url(url: str) -> bool:
    """Return True if `url` has one of the forms."""
    if url.startswith("redis+"):
        servers = parse_servers(url)
        return servers is not None and (servers.kind == "sentinel") == bool(servers.name)
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
