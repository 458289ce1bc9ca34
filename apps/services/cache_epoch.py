"""The cache epoch: a number in the database that rises when a process could not tell Redis of a change.

Without it the other processes would serve the stale entry, for example a session that was ended, until its TTL. A
process that sees a new number invalidates everything cached before. Every process reads the number ten times a second,
and the process that raises it waits as long before it answers, so an acknowledged change is seen everywhere, although
Redis missed it. See docs/cache.md and decision 0002.
"""

import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta

from flask import Flask, current_app
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from apps.cache.probe import Probe
from apps.config import settings
from apps.database.transaction import reading, transactional
from apps.errors import DatabaseUnavailable
from apps.extensions import cache, db
from apps.models import CacheEpoch
from apps.utils import clock

logger = logging.getLogger(__name__)

_READ_INTERVAL = 0.1  # seconds
_MAX_READ_TIME = 0.02  # seconds that a read takes at most while the database is healthy


@dataclass
class _SeenEpoch:
    """What this process last read of the epoch."""

    number: int | None = None
    is_unreadable: bool = False  # the last read failed
    probe: Probe = field(default_factory=lambda: Probe(_READ_INTERVAL, is_open=True))


def init_app(app: Flask) -> None:
    """Let `app` follow the epoch if it shares its cache with other processes."""
    app.extensions["cache_epoch"] = _SeenEpoch() if settings(app).REDIS_URL else None


def check_epoch() -> None:
    """Read the epoch if a read is due, and invalidate the whole cache if it is new."""
    seen: _SeenEpoch | None = current_app.extensions["cache_epoch"]
    if seen is None or not seen.probe.may_try():
        return
    try:
        epoch = _read()
    except (SQLAlchemyError, DatabaseUnavailable) as error:  # without a database there are no changes to miss
        if not seen.is_unreadable:
            logger.warning("cache epoch cannot be read", extra={"event": "cache_epoch.unread", "cause": str(error)})
        seen.is_unreadable = True
        return
    seen.is_unreadable = False
    is_new = _is_recent(epoch) if seen.number is None else epoch.number != seen.number
    seen.number = epoch.number
    if is_new:
        cache.store.invalidate_all("another process could not reach Redis to publish a change")


def bump_epoch() -> None:
    """Raise the number, then wait as long as the other processes take to read it and to ignore what Redis holds.

    Call it after the commit of a change that could not be written to Redis. Raises nothing: if the database fails too,
    the change stays committed, and other processes may serve stale entries for up to CACHE_TTL.
    """
    seen: _SeenEpoch | None = current_app.extensions["cache_epoch"]
    try:
        number = _bump()
        if seen and seen.number == number - 1:  # only this process has raised it, and it has left the cache already
            seen.number = number
    except (SQLAlchemyError, DatabaseUnavailable) as error:
        logger.warning(
            "cache epoch not updated: other processes may serve stale entries for up to CACHE_TTL",
            extra={"event": "cache_epoch.not_bumped", "cause": str(error)},
        )
    time.sleep(_READ_INTERVAL + _MAX_READ_TIME)


def _is_recent(epoch: CacheEpoch) -> bool:
    """Return True if an entry from before the bump may still live; a process that starts later need not care."""
    return clock.now() - epoch.raise_time < timedelta(seconds=settings().CACHE_TTL)


@reading
def _read() -> CacheEpoch:
    return db.session.scalars(select(CacheEpoch)).one()


@transactional
def _bump() -> int:
    db.session.execute(update(CacheEpoch).values(number=CacheEpoch.number + 1, raise_time=clock.now()))
    return db.session.scalars(select(CacheEpoch.number)).one()
