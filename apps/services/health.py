"""Readiness: whether the database, the cache and a signing key are available."""

import logging

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from apps.database import revision
from apps.database.transaction import reading
from apps.errors import DatabaseUnavailable, NoSigningKey
from apps.extensions import cache, db
from apps.services.key import require_signing_key

logger = logging.getLogger(__name__)

_SILENT = "Does not respond."
_WRITABLE_QUERIES = {
    "postgresql": "SELECT current_setting('transaction_read_only') = 'off'",
    "mysql": "SELECT NOT @@read_only",
}


def problems() -> dict[str, str]:
    """Return {part: problem} for each part that cannot serve now: database, cache, signing_key.

    The database must also accept writes and be at the migration that this code needs, or at a newer one.
    """
    found = {"database": _database_problem(), "cache": None if cache.store.ping() else _SILENT}
    if found["database"] is None:
        found["signing_key"] = _signing_key_problem()
    return {part: problem for part, problem in found.items() if problem}


def find_revision() -> str | None:
    """Return the migration of the database, or None if it has no tables or does not answer."""
    try:
        return _read_revision()
    except (SQLAlchemyError, DatabaseUnavailable):
        return None


def _database_problem() -> str | None:
    try:
        found, is_writable = _read_database()
    except (SQLAlchemyError, DatabaseUnavailable) as error:
        cause = str(error) or repr(error)
        logger.warning("database unavailable: not ready", extra={"event": "database.unavailable", "cause": cause})
        return _SILENT
    if problem := revision.problem_of(found):
        extra = {"event": "database.outdated", "revision": found, "needed": revision.needed_revision()}
        logger.warning("database not migrated: not ready; run `manage.py db upgrade`", extra=extra)
        return problem
    return None if is_writable else _SILENT


def _signing_key_problem() -> str | None:
    try:
        require_signing_key()
    except NoSigningKey:
        return "Is missing. Run `manage.py keys rotate`."
    except (SQLAlchemyError, DatabaseUnavailable):
        return _SILENT
    return None


@reading
def _read_revision() -> str | None:
    return revision.read_revision(db.session.scalar)


@reading
def _read_database() -> tuple[str | None, bool]:
    """Return the migration of the database, and whether it accepts writes. Raises `SQLAlchemyError`."""
    found = revision.read_revision(db.session.scalar)
    query = _WRITABLE_QUERIES.get(db.engine.dialect.name)
    return found, found is None or query is None or bool(db.session.scalar(text(query)))
