"""A bulkhead before the database: at most as many requests of a process use it as it has connections.

A server has a few threads more than that. So a database that hangs, or a locked table, cannot take all of them: the
other threads still answer from the cache, and `/healthz`. While the database is only busy, a request waits for a
place. Once the oldest request inside exceeds a limit, the database counts as hung, and nobody waits (decision 0012).
"""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from flask import Flask, current_app

from apps.config import settings
from apps.errors import DatabaseUnavailable

_STUCK_AFTER = 2.0  # seconds; a transaction takes some milliseconds


class Bulkhead:
    """Limits how many threads are inside at a time."""

    def __init__(self, capacity: int, stuck_after: float = _STUCK_AFTER) -> None:
        """Admit `capacity` threads; call the database hung if one has been inside for `stuck_after` seconds."""
        self._capacity = capacity
        self._stuck_after = stuck_after
        self._inside: dict[object, float] = {}  # {visit: its start by the monotonic clock}, the oldest first
        self._place_freed = threading.Condition()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Hold a place. Raises `DatabaseUnavailable` instead of waiting behind a hung database."""
        visit = object()
        with self._place_freed:
            while len(self._inside) >= self._capacity:
                oldest = next(iter(self._inside.values()))
                seconds = oldest + self._stuck_after - time.monotonic()
                if seconds <= 0:
                    raise DatabaseUnavailable
                self._place_freed.wait(seconds)
            self._inside[visit] = time.monotonic()
        try:
            yield
        finally:
            with self._place_freed:
                del self._inside[visit]
                self._place_freed.notify()


def init_app(app: Flask) -> None:
    """Give `app` its bulkhead."""
    # SQLite runs one write at a time, so a long wait inside does not mean that it hangs.
    is_sqlite = app.config["SQLALCHEMY_DATABASE_URI"].startswith("sqlite")
    stuck_after = settings(app).STATEMENT_TIMEOUT.total_seconds() if is_sqlite else _STUCK_AFTER
    app.extensions["bulkhead"] = Bulkhead(settings(app).DATABASE_POOL_SIZE, stuck_after)


def at_the_database() -> AbstractContextManager[None]:
    """Return the context manager that every use of the database runs in."""
    bulkhead: Bulkhead = current_app.extensions["bulkhead"]
    return bulkhead.enter()
