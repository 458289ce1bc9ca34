"""Readiness: whether the database and the cache are available."""

import logging

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from apps.database.transaction import reading
from apps.errors import DatabaseUnavailable
from apps.extensions import cache, db

logger = logging.getLogger(__name__)

_WRITABLE_QUERIES = {
    "postgresql": "SELECT current_setting('transaction_read_only') = 'off'",
    "mysql": "SELECT NOT @@read_only",
}


def dependencies() -> dict[str, bool]:
    """Return for each store whether it answers now; the database must also accept writes."""
    return {"database": _database_answers(), "cache": cache.store.ping()}


def _database_answers() -> bool:
    try:
        return _database_is_writable()
    except (SQLAlchemyError, DatabaseUnavailable) as error:
        cause = str(error) or repr(error)
        logger.warning("database unavailable: not ready", extra={"event": "database.unavailable", "cause": cause})
        return False


@reading
def _database_is_writable() -> bool:
    """Return True if the database accepts writes. Raises `SQLAlchemyError` if it does not answer or has no tables."""
    db.session.execute(text("SELECT version_num FROM alembic_version"))
    query = _WRITABLE_QUERIES.get(db.engine.dialect.name)
    return query is None or bool(db.session.scalar(text(query)))
