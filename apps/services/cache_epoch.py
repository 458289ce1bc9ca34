"""Doubts: a process that cannot tell Redis of a change tells the others through the database.

Else they would go on to believe what the cache holds, a session that was ended among it, for as long as it lives there.
Whoever sees a new doubt believes nothing that was in the cache before. All look ten times a second, and who raises a
doubt waits for as long before it answers: a change that was acknowledged is seen everywhere, though Redis missed it.
"""

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta

from flask import Flask, current_app
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from apps.config import settings
from apps.database.transaction import reading, transactional
from apps.errors import DatabaseUnavailable
from apps.extensions import cache, db
from apps.models import Doubt
from apps.utils import clock

logger = logging.getLogger(__name__)

_LOOK_INTERVAL = 0.1  # seconds
_LOOK_TIME = 0.02  # seconds that a look takes at most, while the database is well


@dataclass
class _Watch:
    """What this process knows of the doubts."""

    number: int | None = None
    looks_again_at: float = float("-inf")  # by the monotonic clock
    is_blind: bool = False  # the last look found no database
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_due(self) -> bool:
        """Whether it is time to look; of the threads that ask at once, one is told so."""
        if time.monotonic() < self.looks_again_at:
            return False
        with self.lock:
            is_first = time.monotonic() >= self.looks_again_at
            self.looks_again_at = time.monotonic() + _LOOK_INTERVAL
        return is_first


def init_app(app: Flask) -> None:
    """Let `app` watch, if it shares its cache with other processes."""
    app.extensions["doubts"] = _Watch() if settings(app).REDIS_URL else None


def heed_doubts() -> None:
    """Let the cache believe nothing old if another process could not tell it something; looks ten times a second."""
    watch: _Watch | None = current_app.extensions["doubts"]
    if watch is None or not watch.is_due():
        return
    try:
        doubt = _read()
    except (SQLAlchemyError, DatabaseUnavailable) as error:  # nothing can be changed meanwhile
        if not watch.is_blind:
            logger.warning("doubts cannot be read", extra={"event": "doubts.unread", "cause": str(error)})
        watch.is_blind = True
        return
    watch.is_blind = False
    is_new = _is_recent(doubt) if watch.number is None else doubt.number != watch.number
    watch.number = doubt.number
    if is_new:
        cache.store.distrust("another process could not tell it of a change")


def raise_doubt() -> None:
    """Tell the other processes that the cache lacks a change, which was committed before; return when they know."""
    watch: _Watch | None = current_app.extensions["doubts"]
    try:
        number = _raise()
        if watch and watch.number == number - 1:  # this process has its own doubt already: what it saw of Redis
            watch.number = number
    except (SQLAlchemyError, DatabaseUnavailable) as error:  # the change is made all the same
        logger.warning("no doubt could be raised", extra={"event": "doubts.unraised", "cause": str(error)})
    time.sleep(_LOOK_INTERVAL + _LOOK_TIME)


def _is_recent(doubt: Doubt) -> bool:
    """Whether an entry from before it may still live: of no concern to a process that starts much later."""
    return clock.now() - doubt.raise_time < timedelta(seconds=settings().CACHE_TTL)


@reading
def _read() -> Doubt:
    return db.session.scalars(select(Doubt)).one()


@transactional
def _raise() -> int:
    db.session.execute(update(Doubt).values(number=Doubt.number + 1, raise_time=clock.now()))
    return db.session.scalars(select(Doubt.number)).one()
