"""How many requests of a process are at the database at a time: as many as it has connections, and no more.

A server has a few threads more than that. So a database that hangs, or a table that is locked, cannot take them all:
the rest goes on to answer from the cache, and `/healthz`. While the database is only busy, who comes waits; when those
inside have been there for long, it does not answer, and nobody waits behind them.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from flask import Flask, current_app

from apps.config import settings
from apps.errors import DatabaseUnavailable

_PATIENCE = 2.0  # seconds after which one inside is stuck; a transaction takes some milliseconds


class DatabaseGate:
    """Lets in as many as there is room for."""

    def __init__(self, room: int, patience: float = _PATIENCE) -> None:
        """Let in `room` visitors, and call one stuck who stays for more than `patience` seconds."""
        self._room = room
        self._patience = patience
        self._inside: dict[object, float] = {}  # {visit: when it began, by the monotonic clock}, the oldest first
        self._changed = threading.Condition()

    @contextmanager
    def visit(self) -> Iterator[None]:
        """Be inside. Raises `DatabaseUnavailable` instead of a wait behind those who are stuck."""
        token = object()
        with self._changed:
            while len(self._inside) >= self._room:
                oldest = next(iter(self._inside.values()))
                seconds = oldest + self._patience - time.monotonic()
                if seconds <= 0:
                    raise DatabaseUnavailable
                self._changed.wait(seconds)
            self._inside[token] = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                del self._inside[token]
                self._changed.notify()


def init_app(app: Flask) -> None:
    """Give `app` its gate."""
    # SQLite lets one write at a time, so that a wait inside is no sign of anything.
    is_sqlite = app.config["SQLALCHEMY_DATABASE_URI"].startswith("sqlite")
    patience = settings(app).STATEMENT_TIMEOUT.total_seconds() if is_sqlite else _PATIENCE
    app.extensions["database_gate"] = DatabaseGate(settings(app).DATABASE_POOL_SIZE, patience)


def at_the_database() -> AbstractContextManager[None]:
    """Return the context of whoever asks the database."""
    gate: DatabaseGate = current_app.extensions["database_gate"]
    return gate.visit()
