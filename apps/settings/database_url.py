"""Check `DATABASE_URL` and its options, and translate the spellings of managed databases for the driver.

For example `postgres://`, `?ssl=true` and `?ssl-mode=REQUIRED`. No message of this module contains a value of the URL.
"""

import inspect
import os
import re
import ssl
from collections.abc import Callable
from typing import Any

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from apps.settings.url_options import (
    InvalidUrl,
    UrlOption,
    check_once,
    check_options,
    parse_flag,
    pop_seconds,
    secret_values,
)

_FORMS = "postgresql://user:password@host:5432/name, mysql://user:password@host:3306/name or sqlite:////folder/file"

_FILE_OPTIONS = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "ssl_ca", "ssl_cert", "ssl_key", "read_default_file")
_MILLISECONDS = {"": 1, "us": 0.001, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_SERVER_SETTING = re.compile(r"(?:-c\s*|--)([A-Za-z][\w.-]*)=((?:\\.|\S)*)")  # PostgreSQL: `postgres --help`

Parsed = tuple[URL, list[UrlOption]]


def parse(text: str) -> tuple[str, list[UrlOption]]:
    """Return the URL as SQLAlchemy reads it, and the options that stand for a setting. Raises `InvalidUrl`."""
    try:
        url = make_url(_hosts_as_options(text), keep_blank_values=True)
        parse_options = _PARSERS[url.get_backend_name().lower()]
    except (ArgumentError, ValueError, KeyError):
        raise InvalidUrl(f"must look like {_FORMS}") from None
    if url.port is not None and not 0 < url.port < 65_536:
        raise InvalidUrl("the port must be from 1 to 65535")
    twice = [option for option, value in url.query.items() if not isinstance(value, str)]
    if set(twice) - {"host", "port"}:
        raise InvalidUrl("contains an option twice")
    plain, implied = parse_options(url)
    return plain.render_as_string(hide_password=False), implied


def passwords_of(text: str) -> list[str]:
    """Return the password and the secret options of a URL that `parse` returned."""
    url = make_url(text)
    return [*([str(url.password)] if url.password else []), *secret_values(url.query)]


def unreadable_files(text: str) -> list[str]:
    """Return the names of the options whose file this process cannot read, for a URL that `parse` returned."""
    options = make_url(text).query
    named = [name for name in _FILE_OPTIONS if options.get(name, "system") != "system"]  # `system`: a word of libpq
    return [name for name in named if not os.access(str(options[name]), os.R_OK)]


def _hosts_as_options(text: str) -> str:
    """Return `text` with several hosts as options: SQLAlchemy does not read them before the path, as libpq does."""
    match = re.fullmatch(r"(postgres[\w+]*://(?:[^@/?]*@)?)([^/?,]+(?:,[^/?,]+)+)([^?]*)(?:\?(.*))?", text)
    if match is None:
        return text
    start, hosts, path, query = match.groups()
    return f"{start}{path}?" + "&".join([*(f"host={host}" for host in hosts.split(",")), *filter(None, [query])])


def _postgresql(url: URL) -> Parsed:
    from psycopg import pq

    query: dict[str, Any] = dict(url.query)
    if "ssl" in query:
        _add_sslmode(query, query.pop("ssl").lower())
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    check_options(query, known, {"replication"})
    check_once(query, {"user": url.username, "password": url.password, "dbname": url.database})
    if re.sub("[-_]", "", query.pop("client_encoding", "utf8")).lower() not in ("utf8", "auto"):
        raise InvalidUrl("the option client_encoding must be utf8")
    implied = pop_seconds(query, "connect_timeout", "DATABASE_TIMEOUT")
    implied += _server_timeouts(query.get("options", ""))
    _check_libpq(query)
    return url.set(drivername="postgresql+psycopg", query=query), implied


def _add_sslmode(query: dict[str, Any], value: str) -> None:
    """Read the option `ssl` of other drivers: true or false, or a mode of libpq."""
    mode = {"true": "require", "1": "require", "false": "disable", "0": "disable"}.get(value, value)
    if (mode == "disable") != (query.setdefault("sslmode", mode) == "disable"):
        raise InvalidUrl("the options ssl and sslmode contradict each other")


def _server_timeouts(options: str) -> list[UrlOption]:
    """Return the time limits of libpq's option `options`, such as `-c statement_timeout=30s`."""
    given = {name.lower().replace("-", "_"): value for name, value in _SERVER_SETTING.findall(options)}
    if given.get("timezone", "UTC").upper() != "UTC":
        raise InvalidUrl("the option options must not set another timezone than UTC")
    found = []
    for name in ("statement_timeout", "lock_timeout"):
        if name in given:
            match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]*)", given[name].strip("'\""))
            if match is None or match[2] not in _MILLISECONDS:
                raise InvalidUrl(f"{name} in the option options must be a time such as 5s")
            seconds = float(match[1]) * _MILLISECONDS[match[2]] / 1000
            found.append(UrlOption("STATEMENT_TIMEOUT", name, seconds, is_whole=name == "statement_timeout"))
    return found


def _check_libpq(query: dict[str, Any]) -> None:
    """Let libpq check the values of the options. Raises `InvalidUrl`."""
    values = {name: value for name, value in query.items() if name not in ("host", "hostaddr", "port", "service")}
    expected = _libpq_error({})
    if _libpq_error(values) == expected:
        return
    wrong = [name for name, value in values.items() if _libpq_error({name: value}) != expected]
    if wrong:
        raise InvalidUrl(f"the option {wrong[0]} has a value that the driver refuses")
    raise InvalidUrl("its options contradict each other")


def _libpq_error(options: dict[str, Any]) -> bytes:
    """Return the error of libpq for a connection with `options` to an address that fails without a network."""
    from psycopg import pq
    from psycopg.conninfo import make_conninfo

    connection = pq.PGconn.connect_start(make_conninfo("hostaddr=255.255.255.255", **options).encode())
    try:
        return connection.error_message
    finally:
        connection.finish()


# Arguments of pymysql.connect that the service sets, or that a string cannot express.
_NOT_FOR_MYSQL = frozenset(
    {
        *("autocommit", "binary_prefix", "client_flag", "compress", "conv", "cursorclass", "db", "defer_connect"),
        *("auth_plugin_map", "init_command", "local_infile", "max_allowed_packet", "named_pipe", "passwd"),
        *("read_timeout", "write_timeout", "sql_mode", "use_unicode", "ssl_key_password"),
        *("host", "port", "user", "password", "database"),
    }
)
_TLS_OPTIONS = ("ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_cipher", "ssl_check_hostname")  # of SQLAlchemy
_TLS_MODES = {  # the words of MySQL, of PostgreSQL and of mysql2 for Node.js
    **dict.fromkeys(("disabled", "disable", "false", "0"), "disabled"),
    **dict.fromkeys(("preferred", "prefer", "allow"), "preferred"),
    **dict.fromkeys(("required", "require", "true", "1"), "required"),
    "verify_ca": "verify_ca",
    **dict.fromkeys(("verify_identity", "verify_full", '{"rejectunauthorized":true}'), "verify_identity"),
}


def _mysql(url: URL) -> Parsed:
    from pymysql import connect  # type: ignore[import-untyped]

    query: dict[str, Any] = {_mysql_name(name): value for name, value in url.query.items()}
    if len(query) < len(url.query):
        raise InvalidUrl("contains an option twice, in two spellings")
    known = {*inspect.signature(connect).parameters, *_TLS_OPTIONS, "ssl_mode"}
    check_options(query, known, _NOT_FOR_MYSQL)
    if query.pop("charset", "utf8mb4").lower() not in ("utf8mb4", "utf8", "utf-8"):
        raise InvalidUrl("the option charset must be utf8mb4")
    if not query.get("collation", "utf8mb4_").startswith("utf8mb4_"):
        raise InvalidUrl("the option collation must be one of utf8mb4")
    implied = pop_seconds(query, "connect_timeout", "DATABASE_TIMEOUT")
    return url.set(drivername="mysql+pymysql", query=query | _mysql_tls(query)), implied


def _mysql_name(name: str) -> str:
    plain = name.lower().replace("-", "").replace("_", "")
    usual = {"sslmode": "ssl_mode", "sslrootcert": "ssl_ca", "sslcert": "ssl_cert", "sslkey": "ssl_key"}
    return usual.get(plain, name.replace("-", "_"))


def _mysql_tls(query: dict[str, Any]) -> dict[str, str]:
    """Remove the TLS options from `query`, and return them as SQLAlchemy and PyMySQL read them."""
    modes = _pop_tls_modes(query)
    given: dict[str, str] = {name: query.pop(name) for name in _TLS_OPTIONS if name in query}
    if len(modes) > 1 or (given and modes & {"disabled", "preferred"}):
        raise InvalidUrl("its TLS options contradict each other")
    mode = next(iter(modes), "preferred")
    if mode == "disabled":
        return {"ssl_disabled": "true"}
    if mode != "preferred":
        wanted = str(mode == "verify_identity").lower()
        if given.setdefault("ssl_check_hostname", wanted) != wanted:
            raise InvalidUrl("its TLS options contradict each other")
    if mode == "verify_ca" or parse_flag("ssl_check_hostname", given.get("ssl_check_hostname", "false")):
        _add_system_authorities(given)  # without authorities PyMySQL would verify nothing
    return given


def _pop_tls_modes(query: dict[str, Any]) -> set[str]:
    """Remove the options that name a TLS mode from `query`, and return the modes: one, unless they contradict."""
    modes = {_tls_mode(name, query.pop(name)) for name in ("ssl_mode", "ssl") if name in query}
    for name, mode in (
        ("ssl_disabled", "disabled"),
        ("ssl_verify_identity", "verify_identity"),
        ("ssl_verify_cert", "verify_ca"),
    ):
        is_on = name in query and parse_flag(name, query.pop(name))
        if is_on and not (mode == "verify_ca" and "verify_identity" in modes):
            modes.add(mode)
    return modes


def _tls_mode(name: str, value: str) -> str:
    try:
        return _TLS_MODES[value.lower().replace("-", "_").replace(" ", "")]
    except KeyError:
        raise InvalidUrl(f"the option {name} must be one of {', '.join(dict.fromkeys(_TLS_MODES.values()))}") from None


def _add_system_authorities(given: dict[str, str]) -> None:
    if "ssl_ca" in given or "ssl_capath" in given:
        return
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        given["ssl_ca"] = paths.cafile
    elif paths.capath:
        given["ssl_capath"] = paths.capath
    else:
        raise InvalidUrl("the option ssl_ca is needed: this machine has no list of authorities")


def _sqlite(url: URL) -> Parsed:
    if url.host or url.username or url.port:
        raise InvalidUrl("must have three slashes before a relative path, and four before an absolute one: sqlite:////")
    query: dict[str, Any] = dict(url.query)
    is_uri = "uri" in query and parse_flag("uri", query["uri"])
    of_uri = {"mode", "cache", "vfs", "psow"} if is_uri else set()
    set_by_service = {"isolation_level", "detect_types", "check_same_thread", "factory", "immutable", "nolock"}
    check_options(query, {"uri", "timeout", "cached_statements"} | of_uri | set_by_service, set_by_service)
    if query.get("mode", "rwc") not in ("rw", "rwc", "memory"):
        raise InvalidUrl("the option mode must be rw, rwc or memory: the service writes")
    if query.get("cache", "private") not in ("private", "shared"):
        raise InvalidUrl("the option cache must be private or shared")
    if not query.get("cached_statements", "0").isdigit():
        raise InvalidUrl("the option cached_statements must be a number")
    implied = pop_seconds(query, "timeout", "STATEMENT_TIMEOUT")
    return url.set(drivername="sqlite", query=query), implied


_PARSERS: dict[str, Callable[[URL], Parsed]] = {
    "postgres": _postgresql,
    "postgresql": _postgresql,
    "mysql": _mysql,
    "mysql2": _mysql,
    "mariadb": _mysql,
    "sqlite": _sqlite,
}
