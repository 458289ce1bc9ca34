"""Migrations: Flask-Migrate, imported on demand, and the automatic upgrade of the embedded database."""

import fcntl
import logging
from pathlib import Path
from typing import Any

from flask import Flask

from apps.about import ROOT
from apps.config import settings
from apps.database import revision
from apps.extensions import db

logger = logging.getLogger(__name__)

MIGRATIONS = ROOT / "migrations"


def bind_migrations(app: Flask) -> None:
    """Bind Flask-Migrate to `app`. Only commands need it, and Alembic takes a tenth of a worker's memory."""
    from flask_migrate import Migrate

    folder = str(MIGRATIONS).replace("%", "%%")  # Alembic interpolates its options
    Migrate(app, app.extensions["sqlalchemy"], folder).configure(_number_revisions)


def _number_revisions(config: Any) -> Any:
    """Let `db revision` run env.py, which numbers the new revision."""
    config.set_main_option("revision_environment", "true")
    return config


def upgrade(app: Flask) -> None:
    """Upgrade the tables, as `manage.py db upgrade` does."""
    import flask_migrate

    bind_migrations(app)
    with app.app_context():
        flask_migrate.upgrade()


def migrate_embedded(app: Flask) -> None:
    """Upgrade the embedded SQLite file, unless a newer release has.

    A configured database is upgraded only by `manage.py db upgrade`.
    """
    if settings(app).DATABASE_URL:
        return
    with (Path(app.instance_path) / "migrate.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process at a time migrates
        with app.app_context(), db.engine.connect() as connection:
            found = revision.read_revision(connection.scalar)
        if revision.is_ahead(found):
            extra = {"event": "database.ahead", "revision": found, "needed": revision.needed_revision()}
            logger.warning("the database is at a migration of a newer release", extra=extra)
        else:
            upgrade(app)
