"""Whether the service can do its work."""

import logging

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from apps.extensions import cache, db
from apps.utils.transaction import reading

logger = logging.getLogger(__name__)


def dependencies() -> dict[str, bool]:
    """Return which of the stores answer now."""
    return {"database": _database_answers(), "cache": cache.store.ping()}


def _database_answers() -> bool:
    try:
        _ask_database()
    except SQLAlchemyError as error:
        logger.warning("database out of reach", extra={"event": "database.unavailable", "cause": str(error)})
        return False
    return True


@reading
def _ask_database() -> None:
    db.session.execute(text("SELECT version_num FROM alembic_version"))  # not SELECT 1: it must have its tables, too
