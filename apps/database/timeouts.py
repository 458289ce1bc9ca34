"""How long this side waits for a database that hangs, or whose network swallows everything.

The server ends a statement that takes too long, but only a server that runs; TCP notices nothing for minutes. Without
a bound on this side, such a database would end up holding every thread.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, event

_PING = 1.0  # seconds that a connection of the pool has to prove that it lives
_PAUSE = 1.0  # seconds between two who try whether a silent database answers again


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


class Silence:
    """A database that did not answer in time: until it does, one at a time tries, and nobody else waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tries_again_at = 0.0  # by the monotonic clock; 0 while it answers

    def begin(self) -> None:
        """Note that it did not answer."""
        self._tries_again_at = time.monotonic() + _PAUSE

    def end(self) -> None:
        """Note that it answers."""
        self._tries_again_at = 0.0

    def may_try(self) -> bool:
        """Whether it answers or, of those that find it silent, this is the one to try."""
        with self._lock:
            now = time.monotonic()
            if now < self._tries_again_at:
                return False
            if self._tries_again_at:
                self._tries_again_at = now + _PAUSE
            return True


def limit_waiting(engine: Engine, seconds: float) -> None:
    """Wait `seconds` at most for each statement, and one second for the sign of life before the first."""
    if engine.dialect.name == "sqlite":
        return
    silence, ping = Silence(), engine.dialect.do_ping
    is_postgresql = engine.dialect.driver == "psycopg"

    def ping_in_time(connection: Any) -> bool:
        with _noticing(silence):
            return ping(connection)

    engine.dialect.do_ping = ping_in_time  # type: ignore[method-assign, assignment]

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        if not silence.may_try():
            raise dialect.loaded_dbapi.OperationalError("the database did not answer a moment ago")
        with _noticing(silence):
            connection = (PostgreSQLConnection if is_postgresql else dialect).connect(*arguments, **options)
        silence.end()
        return connection

    @event.listens_for(engine, "checkout")
    def busy(connection: Any, _record: Any, _proxy: Any) -> None:
        set_patience(connection, seconds)

    @event.listens_for(engine, "checkin")
    def idle(connection: Any, _record: Any) -> None:
        set_patience(connection, _PING)


@contextmanager
def _noticing(silence: Silence) -> Iterator[None]:
    """Note when what is done within fails after so long that the database must be silent."""
    started = time.monotonic()
    try:
        yield
    except Exception:
        if time.monotonic() - started >= _PING:
            silence.begin()
        raise


def set_patience(connection: Any, seconds: float | None) -> None:
    """Let the driver's `connection` wait this long for each answer; None is without end."""
    if isinstance(connection, PostgreSQLConnection):
        connection.patience = seconds
    elif hasattr(connection, "_read_timeout"):  # PyMySQL, which looks at it before each answer
        connection._read_timeout = connection._write_timeout = seconds
