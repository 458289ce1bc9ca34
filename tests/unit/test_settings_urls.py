"""The URLs of the stores: usual spellings, options that a driver refuses, and passwords that a driver would misread."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from apps import create_app
from apps.config import settings
from apps.extensions import db
from apps.settings.urls import secrets_of
from tests.unit.test_settings import GOOD, faults_of

PG, MY = "postgresql://u:p@h/d", "mysql://u:p@h/d"
IDENTITY = {"ssl_check_hostname": "true"}
# {URL: the options that the driver gets}
DATABASES: dict[str, dict[str, Any]] = {
    "postgres://u:p@h/d": {},
    "postgresql+psycopg://u:p@h/d": {},
    "postgresql+psycopg2://u:p@h/d?sslmode=require": {"sslmode": "require"},
    f"{PG}?ssl=true": {"sslmode": "require"},
    f"{PG}?ssl=false": {"sslmode": "disable"},
    f"{PG}?ssl=verify-full": {"sslmode": "verify-full"},
    f"{PG}?ssl=true&sslmode=verify-full": {"sslmode": "verify-full"},
    f"{PG}?sslmode=verify-full&sslrootcert=system": {"sslmode": "verify-full", "sslrootcert": "system"},
    f"{PG}?channel_binding=require&application_name=x": {"channel_binding": "require", "application_name": "x"},
    f"{PG}?options=endpoint%3Dep-1": {"options": "endpoint=ep-1"},
    f"{PG}?client_encoding=UTF8": {},
    "postgresql://u:p@h1:5432,h2:5433/d?target_session_attrs=any": {
        "host": ("h1:5432", "h2:5433"),
        "target_session_attrs": "any",
    },
    "postgresql://u:p@/d?host=/run/postgresql": {"host": "/run/postgresql"},
    f"{MY}?ssl-mode=REQUIRED": {"ssl_check_hostname": "false"},
    f"{MY}?ssl_mode=DISABLED": {"ssl_disabled": "true"},
    f"{MY}?sslMode=preferred": {},
    f"{MY}?ssl=true": {"ssl_check_hostname": "false"},
    f"{MY}?ssl-mode=VERIFY_CA&ssl-ca=/dev/null": {"ssl_ca": "/dev/null", "ssl_check_hostname": "false"},
    f"{MY}?sslmode=verify-full&sslrootcert=/dev/null": IDENTITY | {"ssl_ca": "/dev/null"},
    f"{MY}?ssl_ca=/dev/null": {"ssl_ca": "/dev/null"},
    f"{MY}?ssl_verify_identity=true&ssl_verify_cert=true&ssl_ca=/dev/null": IDENTITY | {"ssl_ca": "/dev/null"},
    f"{MY}?ssl_disabled=false": {},
    f"{MY}?charset=utf8mb4&unix_socket=/run/x": {"unix_socket": "/run/x"},
    "mariadb://u:p@h/d?charset=utf8": {},
    "mysql+aiomysql://u:p@h/d": {},
    "sqlite:///file:/tmp/x?mode=rw&uri=true": {"mode": "rw", "uri": "true"},
}
REDIS = {
    "redis://h:6379/0": "redis://h:6379/0",
    "redis://h:6379/0?ssl=true": "rediss://h:6379/0",
    "redis://h:6379/0?ssl=false": "redis://h:6379/0",
    "rediss://h:6379?tls=true": "rediss://h:6379",
    "redis://u:p@h?db=3": "redis://u:p@h?db=3",
    "rediss://h?ssl_cert_reqs=CERT_NONE": "rediss://h?ssl_cert_reqs=none",
    "rediss://h?ssl_cert_reqs=required": "rediss://h?ssl_cert_reqs=required",
    "valkey://h:1": "redis://h:1",
    "valkeys://:p%40q@h:1/2": "rediss://:p%40q@h:1/2",
    "unix:///tmp/s?db=2": "unix:///tmp/s?db=2",
    "redis+sentinel://:p@h:1,g:2/name": "redis+sentinel://:p@h:1,g:2/name",
}
# {URL: a word of the problem}
WRONG: dict[str, dict[str, str]] = {
    "DATABASE_URL": {
        f"{PG}?sslmode=canary": "sslmode",
        f"{PG}?ssl=no-verify": "sslmode",
        f"{PG}?ssl=false&sslmode=require": "contradict",
        f"{PG}?sslmode=require&sslmode=disable": "twice",
        f"{PG}?sslmode=": "no value",
        f"{PG}?sslmode": "no value",
        f"{PG}?pgbouncer=true": "pgbouncer",
        f"{PG}?schema=public&connection_limit=5": "connection_limit",
        f"{PG}?keepalives=canary": "keepalives",
        f"{PG}?target_session_attrs=canary": "target_session_attrs",
        f"{PG}?sslnegotiation=direct&sslmode=prefer": "sslnegotiation",
        f"{PG}?connect_timeout=0": "connect_timeout must be from 1 s to 60 s",
        f"{PG}?connect_timeout=canary": "connect_timeout",
        f"{PG}?connect_timeout=nan": "connect_timeout",
        f"{PG}?options=-c%20statement_timeout%3D0": "statement_timeout",
        f"{PG}?options=-c%20statement_timeout%3Dcanary": "statement_timeout",
        f"{PG}?options=--timezone%3DEurope/Berlin": "timezone",
        f"{PG}?client_encoding=latin1": "client_encoding",
        f"{PG}?replication=database": "replication",
        f"{PG}?password=abc&canary": "does not know",
        "postgresql://h:70000/d": "port",
        f"{MY}?ssl-mode=canary": "ssl_mode must be one of disabled",
        f"{MY}?ssl=false&ssl_ca=/x": "contradict",
        f"{MY}?ssl-mode=REQUIRED&ssl_mode=DISABLED": "twice",
        f"{MY}?ssl-mode=DISABLED&ssl=true": "contradict",
        f"{MY}?ssl_verify_cert=maybe": "true or false",
        f"{MY}?charset=latin1": "charset",
        f"{MY}?collation=latin1_bin": "collation",
        f"{MY}?autocommit=true": "autocommit",
        f"{MY}?read_timeout=30": "read_timeout",
        f"{MY}?sslaccept=strict": "sslaccept",
        "mysql://h:0/d": "port",
        "sqlite:///x?mode=rw": "mode",
        "sqlite:///file:x?mode=ro&uri=true": "mode",
        "sqlite:///x?isolation_level=x": "isolation_level",
        "sqlite://canary.db": "slashes",
        "jdbc:postgresql://h/d": "must look like",
        f"{PG}?dbname=canary": "dbname",
        f"{PG}?user=canary": "user",
        f"{PG}?sslrootcert=/no/canary&sslmode=verify-full": "sslrootcert cannot be read",
        f"{MY}?ssl_ca=/no/canary": "ssl_ca cannot be read",
    },
    "REDIS_URL": {
        "redis://h:6379/canary": "path",
        "redis://h:6379/0?canary=1": "canary",
        "redis://h?db=canary": "refuses",
        "redis://h?protocol=9": "refuses",
        "redis://h?ssl=canary": "true or false",
        "redis://h?db=1&db=2": "twice",
        "redis://h?db=": "no value",
        "redis://h?ssl_cert_reqs=none": "ssl_cert_reqs",
        "rediss://h?ssl_cert_reqs=canary": "refuses",
        "rediss://h?ssl=false": "contradicts",
        "unix:///tmp/s?ssl=true": "contradicts",
        "unix://tmp/s": "must look like",
        "redis://h?decode_responses=false": "decode_responses",
        "redis://h?max_connections=2": "max_connections",
        "redis://h?socket_timeout=60": "socket_timeout must be from 0.01 to 5",
        "redis://h?socket_timeout=1&socket_connect_timeout=2": "contradict",
        "redis://h?credential_provider=canary": "credential_provider",
        "redis://h?redis_connect_func=canary": "redis_connect_func",
        "redis://h?command_packer=canary": "command_packer",
        "redis://h?event_dispatcher=canary": "event_dispatcher",
        "redis://h?socket_keepalive_options=canary": "socket_keepalive_options",
        "redis://h?maint_notifications_config=canary": "maint_notifications_config",
        "redis://h?socket_keepalive=canary": "true or false",
        "rediss://h?ssl_check_hostname=canary": "true or false",
        "rediss://h?ssl_ca_certs=/no/canary": "ssl_ca_certs cannot be read",
        "rediss://h?ssl_ciphers=canary": "ssl_ciphers",
        "rediss://h?ssl_keyfile=/dev/null": "ssl_certfile",
        "redis://h/1?db=2": "db",
        "redis://u:p@h?password=canary": "password",
        "redis+sentinel://h:1/m?ssl=true": "must look like",
        "redis+sentinel://h:70000/m": "must look like",
        "redis://h:70000": "must look like",
    },
}
# {URL: (setting, value)}
IMPLIED: dict[str, tuple[str, str, Any]] = {
    f"{PG}?connect_timeout=30": ("DATABASE_URL", "DATABASE_TIMEOUT", timedelta(seconds=30)),
    f"{MY}?connect_timeout=30": ("DATABASE_URL", "DATABASE_TIMEOUT", timedelta(seconds=30)),
    f"{PG}?options=-c%20statement_timeout%3D30s": ("DATABASE_URL", "STATEMENT_TIMEOUT", timedelta(seconds=30)),
    f"{PG}?options=--statement-timeout%3D1500": ("DATABASE_URL", "STATEMENT_TIMEOUT", timedelta(seconds=1.5)),
    "sqlite://?timeout=20": ("DATABASE_URL", "STATEMENT_TIMEOUT", timedelta(seconds=20)),
    "redis://h?socket_timeout=2": ("REDIS_URL", "REDIS_TIMEOUT", 2.0),
    "redis://h?socket_connect_timeout=2": ("REDIS_URL", "REDIS_TIMEOUT", 2.0),
}


@pytest.mark.parametrize("url", DATABASES)
def test_a_usual_spelling_of_a_database_gets_the_options_of_its_driver(url: str) -> None:
    app = create_app("production", **(GOOD | {"DATABASE_URL": url}))
    parsed = make_url(app.config["SQLALCHEMY_DATABASE_URI"])
    assert dict(parsed.query) == DATABASES[url]
    assert parsed.drivername in ("postgresql+psycopg", "mysql+pymysql", "sqlite")
    assert parsed.password == ("p" if parsed.username else None)


def test_a_certificate_is_verified_with_the_authorities_of_the_machine() -> None:
    """PyMySQL verifies nothing without a list of authorities."""
    app = create_app("testing", DATABASE_URL=f"{MY}?ssl-mode=VERIFY_IDENTITY")
    query = make_url(app.config["SQLALCHEMY_DATABASE_URI"]).query
    assert query["ssl_check_hostname"] == "true"
    assert query.get("ssl_ca") or query.get("ssl_capath")


@pytest.mark.parametrize("url", REDIS)
def test_a_usual_spelling_of_redis_becomes_that_of_the_driver(url: str) -> None:
    assert REDIS[url] == settings(create_app("production", **GOOD, REDIS_URL=url)).REDIS_URL


@pytest.mark.parametrize(("name", "url"), [(name, url) for name in WRONG for url in WRONG[name]])
def test_an_option_that_cannot_work_stops_the_start(name: str, url: str) -> None:
    """S1: the problem names the option, and no value."""
    (problem,) = faults_of(**{name: url})
    assert problem.startswith(f"{name}: ")
    assert WRONG[name][url] in problem
    assert "canary" not in problem or "canary=" in url


@pytest.mark.parametrize("character", [*"@/#?% []", "\n", "@h/x?", "%zz"])
@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "postgresql://u:{}@127.0.0.1/d"),
        ("DATABASE_URL", "mysql://u:{}@127.0.0.1/d?charset=utf8mb4"),
        ("REDIS_URL", "redis://:{}@127.0.0.1:6379/0"),
        ("REDIS_URL", "redis+sentinel://:{}@127.0.0.1:6379/x"),
        ("REDIS_URL", "unix://:{}@/tmp/socket"),
    ],
)
def test_a_password_that_a_driver_would_cut_is_refused_and_not_shown(name: str, url: str, character: str) -> None:
    """S1, L1: a driver would show the part after the character as the name of a host, a path or an option."""
    (problem,) = faults_of(**{name: url.format(f"S3cr{character}tTail99")})
    assert problem.startswith(f"{name}: ")
    assert "Tail99" not in problem
    assert "S3cr" not in problem


@pytest.mark.parametrize("password", ["a:b", "a%40b%2Fc%3Fd%23e%25f%5Bg%5D%20h", "%E5%80%BC", "x+y&z=1"])
def test_a_password_with_any_character_reaches_the_driver(password: str) -> None:
    for url in (PG, MY):
        app = create_app("testing", DATABASE_URL=url.replace(":p@", f":{password}@"))
        parsed = make_url(app.config["SQLALCHEMY_DATABASE_URI"])
        assert parsed.password == make_url(f"x://u:{password}@h").password
        assert parsed.host == "h"
        assert parsed.password in secrets_of(settings(app))


@pytest.mark.parametrize("url", IMPLIED)
def test_an_option_of_the_url_wins_over_the_default_of_its_setting(url: str) -> None:
    name, setting, value = IMPLIED[url]
    assert getattr(settings(create_app("production", **(GOOD | {name: url}))), setting) == value


@pytest.mark.parametrize("url", IMPLIED)
def test_an_option_of_the_url_and_its_setting_must_not_contradict_each_other(url: str) -> None:
    name, setting, value = IMPLIED[url]
    assert create_app("production", **(GOOD | {name: url, setting: value}))
    (problem,) = faults_of(**{name: url, setting: 3})
    assert problem.startswith(f"{setting}: contradicts the option ")
    assert name in problem


def test_the_driver_gets_the_time_limits_of_the_url() -> None:
    url = f"{PG}?connect_timeout=30&options=-c%20lock_timeout%3D1s%20-c%20jit%3Doff"
    app = create_app("testing", DATABASE_URL=url)
    arguments = app.config["SQLALCHEMY_ENGINE_OPTIONS"]["connect_args"]
    assert arguments["connect_timeout"] == 30
    assert arguments["options"].endswith("-c lock_timeout=5000 -c timezone=UTC -c lock_timeout=1s -c jit=off")
    assert faults_of(DATABASE_URL=url, STATEMENT_TIMEOUT=5) == [
        "STATEMENT_TIMEOUT: contradicts the option lock_timeout in DATABASE_URL"
    ]


@pytest.mark.stores("postgresql", "mariadb")
def test_the_database_takes_the_options(database_url: str) -> None:
    """An option of the URL is in force in the connection."""
    is_postgresql = database_url.startswith("postgresql")
    added = "options=-c%20statement_timeout%3D7s" if is_postgresql else "ssl-mode=PREFERRED&charset=utf8"
    url = database_url + ("&" if "?" in database_url else "?") + added
    with create_app("testing", DATABASE_URL=url).app_context(), db.engine.connect() as connection:
        query = "SHOW statement_timeout" if is_postgresql else "SELECT @@character_set_connection"
        assert connection.exec_driver_sql(query).scalar_one() == ("7s" if is_postgresql else "utf8mb4")
        connection.close()
        db.engine.dispose()


@pytest.mark.parametrize("stray", ["\n", "\r\n", " ", "\r", "\t", "\x00", "\N{NO-BREAK SPACE}"])
@pytest.mark.parametrize(
    "name", ["DATABASE_URL", "REDIS_URL", "JWT_SECRET_KEY", "CACHE_PREFIX", "SENTRY_DSN", "LOG_LEVEL", "LOGIN_LIMIT"]
)
def test_a_line_break_or_space_of_a_file_stops_the_start(name: str, stray: str) -> None:
    """S1: `echo secret > file` adds a line break, which would be a part of the secret, the URL or the name."""
    good = {"REDIS_URL": "redis://h", "CACHE_PREFIX": "x", "SENTRY_DSN": "https://k@h/1", "LOG_LEVEL": "INFO"}
    value = (GOOD | good | {"LOGIN_LIMIT": "10/minute"})[name] + stray
    assert [problem.partition(":")[0] for problem in faults_of(**{name: value})] == [name]


def test_a_key_of_several_with_a_line_break_stops_the_start() -> None:
    keys = [GOOD["FIELD_ENCRYPTION_KEYS"][0] + "\n"]
    (problem,) = faults_of(FIELD_ENCRYPTION_KEYS=keys)
    assert problem.startswith("FIELD_ENCRYPTION_KEYS: ")
    assert "line break" in problem
