"""The benchmarks' own databases on a running PostgreSQL, and a Redis. Options name both servers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis
import sqlalchemy as sa

from apps import create_app
from apps.database.migrations import upgrade
from apps.extensions import db


@dataclass(frozen=True)
class Stores:
    """The URLs of the servers. The named Redis database is emptied."""

    postgresql: str
    redis: str

    @contextmanager
    def empty_database(self, name: str) -> Iterator[str]:
        """Yield the URL of a new database, and drop it afterwards."""
        url = sa.make_url(self.postgresql).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
        try:
            yield sa.make_url(self.postgresql).set(database=name).render_as_string(hide_password=False)
        finally:
            with engine.connect() as connection:
                connection.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')

    def empty_redis(self) -> str:
        """Empty the Redis database and return its URL."""
        with redis.Redis.from_url(self.redis) as server:
            server.flushdb()
        return self.redis


def migrate(database_url: str) -> None:
    """Create Gatehouse's tables."""
    app = create_app("testing", DATABASE_URL=database_url)
    upgrade(app)
    with app.app_context():
        db.engine.dispose()
