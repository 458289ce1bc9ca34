"""How long this side waits for a database that hangs, or whose network swallows everything.

The server ends a statement that takes too long, but only a server that runs; TCP notices nothing for minutes. Without
a bound on this side, such a database would end up holding every thread.
"""

from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, event

_PING = 1.0  # seconds that a connection of the pool has to prove that it lives


class PostgreSQLConnection(psycopg.Connection[Any]):
    """Gives up after `patience` seconds; None is never."""

    patience: float | None = _PING

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server's answer."""
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.info.transaction_status == TransactionStatus.ACTIVE:
                self.close()  # its answer may still come, and must not become another request's
            raise


def limit_waiting(engine: Engine, seconds: float) -> None:
    """Wait `seconds` at most for each statement, and one second for the sign of life before the first."""
    if engine.dialect.name == "sqlite":
        return

    if engine.dialect.driver == "psycopg":

        @event.listens_for(engine, "do_connect")
        def connect(_dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
            return PostgreSQLConnection.connect(*arguments, **options)

    @event.listens_for(engine, "checkout")
    def busy(connection: Any, _record: Any, _proxy: Any) -> None:
        set_patience(connection, seconds)

    @event.listens_for(engine, "checkin")
    def idle(connection: Any, _record: Any) -> None:
        set_patience(connection, _PING)


def set_patience(connection: Any, seconds: float | None) -> None:
    """Let the driver's `connection` wait this long for each answer; None is without end."""
    if isinstance(connection, PostgreSQLConnection):
        connection.patience = seconds
    elif hasattr(connection, "_read_timeout"):  # PyMySQL, which looks at it before each answer
        connection._read_timeout = connection._write_timeout = seconds
