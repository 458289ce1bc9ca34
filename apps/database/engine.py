"""The engine: URLs as people write them, limits on time, and SQLite made to behave like the others."""

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "sqlite": "sqlite",
}


def is_supported(url: str) -> bool:
    """Whether `url` can be read and is of a database that there is a driver for."""
    try:
        return make_url(url).get_backend_name() in _DRIVERS
    except (ArgumentError, ValueError):
        return False


def engine_settings(
    url: str, pool_size: int, timeout: timedelta, statement_timeout: timedelta
) -> tuple[str, dict[str, Any]]:
    """Return the URL with its driver and the options of the engine for it."""
    parsed = make_url(url)
    parsed = parsed.set(drivername=_DRIVERS[parsed.get_backend_name()])
    seconds, statement = int(timeout.total_seconds()), int(statement_timeout.total_seconds())
    # hide_parameters: the values of a failed statement may be hashes or names, and errors are logged.
    options: dict[str, Any] = {"hide_parameters": True}
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        options["connect_args"] = {"timeout": statement}
    else:
        options |= {
            "pool_pre_ping": True,  # a database that was restarted costs no request
            "pool_size": pool_size,
            "max_overflow": 0,
            "pool_timeout": seconds,
            "pool_recycle": 1800,
            "isolation_level": "READ COMMITTED",
            "connect_args": _postgresql(seconds, statement) if backend == "postgresql" else _mysql(seconds, statement),
        }
    return parsed.render_as_string(hide_password=False), options


def _postgresql(seconds: int, statement: int) -> dict[str, Any]:
    milliseconds = statement * 1000
    return {
        "connect_timeout": seconds,
        "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds} -c timezone=UTC",
    }


def _mysql(seconds: int, statement: int) -> dict[str, Any]:
    return {
        "connect_timeout": seconds,
        "read_timeout": seconds,  # until the connection is used: see patience.py
        "write_timeout": seconds,
        "charset": "utf8mb4",
        "init_command": (
            f"SET SESSION innodb_lock_wait_timeout={statement}, lock_wait_timeout={statement}, time_zone='+00:00', "
            "sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"
        ),
    }


def most_connections(engine: Engine) -> int | None:
    """Return how many connections the database allows to all its clients; None for SQLite, which counts none."""
    question = {
        "postgresql": "SELECT current_setting('max_connections')::int"
        " - current_setting('superuser_reserved_connections')::int",
        "mysql": "SELECT @@max_connections",
    }.get(engine.dialect.name)
    if question is None:
        return None
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(question).scalar_one())


def prepare_sqlite(engine: Engine) -> None:
    """Let readers and one writer work at a time, and have foreign keys and transactions mean what they say."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself; see begin() below
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A read that turns into a write is refused at once when another writer was faster: take the lock first.
        is_write = connection.get_execution_options().get("is_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")
