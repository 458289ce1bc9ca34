"""Client-side timeouts for a database that hangs, or whose network drops every packet.

The server ends a slow statement only while it runs, and TCP notices a dead peer after minutes. Without a timeout on
this side, such a database would hold every thread in the end.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, event

from apps.cache.probe import Probe

_PING_TIMEOUT = 1.0  # seconds in which a pooled connection must answer the ping before its use
_RETRY_INTERVAL = 1.0  # seconds between two tries to connect to a database that did not answer


class PostgreSQLConnection(psycopg.Connection[Any]):
    """A psycopg connection that waits at most `socket_timeout` seconds for an answer; None means without limit."""

    socket_timeout: float | None = _PING_TIMEOUT

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server's answer."""
        try:
            return super().wait(gen, interval, self.socket_timeout if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.info.transaction_status == TransactionStatus.ACTIVE:
                self.close()  # a late answer must not become another request's
            raise


def limit_waiting(engine: Engine, seconds: float) -> None:
    """Wait at most `seconds` for each statement, and one second for the ping before the first."""
    if engine.dialect.name == "sqlite":
        return
    connect_breaker, ping = Probe(_RETRY_INTERVAL), engine.dialect.do_ping
    is_postgresql = engine.dialect.driver == "psycopg"

    def ping_in_time(connection: Any) -> bool:
        with _watched(connect_breaker):
            return ping(connection)

    engine.dialect.do_ping = ping_in_time  # type: ignore[method-assign, assignment]

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        if not connect_breaker.may_try():
            raise dialect.loaded_dbapi.OperationalError("the database did not answer a moment ago")
        with _watched(connect_breaker):
            try:
                connection = (PostgreSQLConnection if is_postgresql else dialect).connect(*arguments, **options)
            except OSError as error:  # PyMySQL passes on that a file for TLS cannot be read
                raise dialect.loaded_dbapi.OperationalError(f"TLS: {error.strerror}: {error.filename}") from error
        connect_breaker.close()
        return connection

    @event.listens_for(engine, "checkout")
    def busy(connection: Any, _record: Any, _proxy: Any) -> None:
        set_socket_timeout(connection, seconds)

    @event.listens_for(engine, "checkin")
    def idle(connection: Any, _record: Any) -> None:
        set_socket_timeout(connection, _PING_TIMEOUT)


@contextmanager
def _watched(connect_breaker: Probe) -> Iterator[None]:
    """Open the breaker when the block fails after the ping timeout."""
    started = time.monotonic()
    try:
        yield
    except Exception:
        if time.monotonic() - started >= _PING_TIMEOUT:
            connect_breaker.open()
        raise


def set_socket_timeout(connection: Any, seconds: float | None) -> None:
    """Let the driver's `connection` wait this long for each answer; None means without limit."""
    if isinstance(connection, PostgreSQLConnection):
        connection.socket_timeout = seconds
    elif hasattr(connection, "_read_timeout"):  # PyMySQL, which reads it before each answer
        connection._read_timeout = connection._write_timeout = seconds
