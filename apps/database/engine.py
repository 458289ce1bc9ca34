"""The engine: its URL and options, and the set-up that makes SQLite behave like the other databases."""

from datetime import timedelta
from typing import Any

from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.engine import make_url


def engine_settings(
    url: str, pool_size: int, timeout: timedelta, statement_timeout: timedelta
) -> tuple[str, dict[str, Any]]:
    """Return the URL and the options of the engine, for a checked DATABASE_URL (apps/settings/database_url.py).

    `timeout` limits the wait for a connection, `statement_timeout` a statement and its locks.
    """
    parsed = make_url(url)
    seconds = int(timeout.total_seconds())
    # hide_parameters: the values of a failed statement may be hashes or names, and errors are logged.
    options: dict[str, Any] = {"hide_parameters": True}
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        options["connect_args"] = {"timeout": statement_timeout.total_seconds()}
    else:
        options |= {
            "pool_pre_ping": True,  # replaces connections that a restarted database has dropped
            "pool_size": pool_size,
            "max_overflow": 0,
            "pool_timeout": seconds,
            "pool_recycle": 1800,
            "isolation_level": "READ COMMITTED",
            "connect_args": (_postgresql if backend == "postgresql" else _mysql)(parsed, seconds, statement_timeout),
        }
    return parsed.render_as_string(hide_password=False), options


def _postgresql(url: URL, seconds: int, statement: timedelta) -> dict[str, Any]:
    milliseconds = int(statement.total_seconds() * 1000)
    timeouts = f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds} -c timezone=UTC"
    given = url.query.get("options")
    return {"connect_timeout": seconds, "options": f"{timeouts} {given}" if given else timeouts}  # the last one wins


def _mysql(url: URL, seconds: int, statement: timedelta) -> dict[str, Any]:
    limit = int(statement.total_seconds())
    # PyMySQL encodes a string in Latin-1, which cannot express every password.
    password = {} if url.password is None or url.password.isascii() else {"password": url.password.encode()}
    return password | {
        "connect_timeout": seconds,
        "read_timeout": seconds,  # until the first use: see timeouts.py
        "write_timeout": seconds,
        "charset": "utf8mb4",
        "init_command": (
            f"SET SESSION innodb_lock_wait_timeout={limit}, lock_wait_timeout={limit}, time_zone='+00:00', "
            "sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"
        ),
    }


def max_connections(engine: Engine) -> int | None:
    """Return the number of connections that the database allows to all clients; None for SQLite, which has no limit."""
    query = {
        "postgresql": "SELECT current_setting('max_connections')::int"
        " - current_setting('superuser_reserved_connections')::int",
        "mysql": "SELECT @@max_connections",
    }.get(engine.dialect.name)
    if query is None:
        return None
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(query).scalar_one())


def prepare_sqlite(engine: Engine) -> None:
    """On SQLite, allow readers beside one writer, enforce foreign keys, and begin transactions explicitly."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions; begin() below does
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A write takes the lock first: a transaction that began as a read fails at once if another wrote meanwhile.
        is_write = connection.get_execution_options().get("is_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")
