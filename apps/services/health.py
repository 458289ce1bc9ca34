"""Whether the service can do its work."""

import logging

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from apps.database.transaction import reading
from apps.errors import DatabaseUnavailable
from apps.extensions import cache, db

logger = logging.getLogger(__name__)

_TAKES_WRITES = {
    "postgresql": "SELECT current_setting('transaction_read_only') = 'off'",
    "mysql": "SELECT NOT @@read_only",
}


def dependencies() -> dict[str, bool]:
    """Return which of the stores answer now, and take writes."""
    return {"database": _database_answers(), "cache": cache.store.ping()}


def _database_answers() -> bool:
    try:
        return _ask_database()
    except (SQLAlchemyError, DatabaseUnavailable) as error:
        logger.warning("database out of reach", extra={"event": "database.unavailable", "cause": str(error)})
        return False


@reading
def _ask_database() -> bool:
    """Return whether the database takes writes. Raises `SQLAlchemyError` where it does not answer, or has no tables."""
    db.session.execute(text("SELECT version_num FROM alembic_version"))
    question = _TAKES_WRITES.get(db.engine.dialect.name)
    return question is None or bool(db.session.scalar(text(question)))
