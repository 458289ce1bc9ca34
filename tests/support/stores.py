"""The databases and caches that the suite runs on, and the applications on them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask
from sqlalchemy import select, update

from apps import create_app
from apps.cache.memory import MemoryCache
from apps.cache.single_process import SingleProcess
from apps.commands import register_commands
from apps.database.migrations import upgrade
from apps.extensions import db
from apps.models import CacheEpoch, User
from tests.support.audit import NEW_HEAD, write_audit
from tests.support.documented_client import DocumentedClient
from tests.support.servers import create_database


@dataclass(frozen=True)
class Pair:
    """A database, and the cache that it is tested with."""

    database: str
    cache: str | None

    @property
    def servers(self) -> list[str]:
        return [name for name in (self.database, self.cache) if name not in (None, "sqlite")]


PAIRS = {
    "sqlite": Pair("sqlite", None),
    "postgresql": Pair("postgresql", "redis"),
    "postgresql18": Pair("postgresql18", "valkey"),
    "mariadb": Pair("mariadb", "valkey"),
}


def names_for(test: pytest.Item) -> list[str]:
    """Return the pairs that a test runs on: those that its `stores` marker names, else all."""
    marker = test.get_closest_marker("stores")
    return list(marker.args if marker else PAIRS)


def server_url(name: str) -> str | None:
    return os.environ.get(f"TEST_{name.upper()}_URL")


def worker_number() -> int:
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def cache_url(name: str | None) -> str:
    """Return the URL of this xdist worker's own database on the server, which can be flushed."""
    if name is None:
        return ""
    url = server_url(name)
    assert url
    return f"{url}{'&' if '?' in url else '?'}db={worker_number()}"


def make_database(name: str, folder: Path) -> str:
    """Return the URL of a new, migrated database."""
    if name == "sqlite":
        url = f"sqlite:///{folder / 'test.sqlite3'}"
    else:
        server = server_url(name)
        assert server
        url = create_database(server, f"gatehouse_{name}_{worker_number()}")
    app = create_app("testing", DATABASE_URL=url)
    upgrade(app)
    with app.app_context():
        db.engine.dispose()
    return url


@contextmanager
def application(database_url: str, redis_url: str, **settings: Any) -> Iterator[Flask]:
    """Yield an application, and empty its stores afterwards."""
    app = create_app("testing", **({"DATABASE_URL": database_url, "REDIS_URL": redis_url} | settings))
    app.test_client_class = DocumentedClient
    register_commands(app)
    try:
        yield app
    finally:
        empty(app, redis_url)


def empty_left_overs(app: Flask, redis_url: str) -> None:
    """Empty the stores if the database ran a statement of an earlier test only after that test's clean-up."""
    with app.app_context():
        is_dirty = db.session.scalar(select(User.id).limit(1)) is not None
        db.session.remove()
    if is_dirty:
        empty(app, redis_url)


def empty(app: Flask, redis_url: str) -> None:
    with app.app_context():
        _empty_tables()
        db.session.remove()
        db.engine.dispose()
    if redis_url:
        with redis.Redis.from_url(redis_url) as server:
            server.flushdb()


def _empty_tables() -> None:
    """Empty the tables. The audit's triggers refuse a DELETE, so `write_audit` bypasses them."""
    kept = ("audit_events", "audit_head", "doubts")
    tables = [table for table in reversed(db.metadata.sorted_tables) if table.name not in kept]
    for table in tables:
        db.session.execute(table.delete())
    db.session.execute(update(CacheEpoch).values(number=0, raise_time=datetime(1970, 1, 1, tzinfo=UTC)))
    write_audit([], NEW_HEAD)


def memory_cache() -> MemoryCache:
    """Return an empty cache in memory, usable whatever other processes run."""
    return MemoryCache(SingleProcess("sqlite://", ""))


def skip_unless_available(pair: Pair) -> None:
    missing = [name for name in pair.servers if not server_url(name)]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)} here")
