"""Migrations: Flask-Migrate, bound late, and the automatic upgrade of the embedded database."""

import fcntl
from pathlib import Path

from flask import Flask

from apps.about import ROOT
from apps.config import settings

MIGRATIONS = ROOT / "migrations"


def bind_migrations(app: Flask) -> None:
    """Let Flask-Migrate work on `app`; not in every process, because Alembic takes a tenth of a worker's memory."""
    from flask_migrate import Migrate

    Migrate(app, app.extensions["sqlalchemy"], str(MIGRATIONS))


def upgrade(app: Flask) -> None:
    """Bring the tables up to date, as `manage.py db upgrade` does."""
    import flask_migrate

    bind_migrations(app)
    with app.app_context():
        flask_migrate.upgrade()


def migrate_embedded(app: Flask) -> None:
    """Bring the SQLite file up to date. A configured database is migrated by `manage.py db upgrade` alone."""
    if settings(app).DATABASE_URL:
        return
    with (Path(app.instance_path) / "migrate.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # processes that start together migrate one after the other
        upgrade(app)
