"""The migration (revision) of a database, and the one that this code needs.

A database may be ahead: during a rolling update, the previous release runs on the migrated tables.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from apps.about import ROOT
from apps.database.transaction import error_code

# Undefined table and undefined column: SQLSTATE of PostgreSQL, of MariaDB and MySQL, and texts of SQLite.
_MISSING = frozenset({"42P01", "42703", "42S02", "42S22"})
_MISSING_TEXT = re.compile(r"no such (table|column)|has no column named")


@functools.cache
def _known() -> frozenset[str]:
    return frozenset(path.name[:4] for path in (ROOT / "migrations" / "versions").glob("[0-9]*.py"))


def needed_revision() -> str:
    """Return the newest migration of this code."""
    return max(_known())


def read_revision(scalar: Callable[..., Any]) -> str | None:
    """Return the migration of the database, or None if it has no tables.

    `scalar` runs a statement and returns its value. After None, roll its transaction back.
    """
    try:
        return scalar(text("SELECT version_num FROM alembic_version"))  # type: ignore[no-any-return]
    except DBAPIError as error:
        if not is_missing_schema(error):
            raise
        return None


def problem_of(revision: str | None) -> str | None:
    """Return why a database at this migration cannot be used, and the command to fix it; None if it can be used."""
    if revision is None:
        return f"Has no tables: needs migration {needed_revision()}. Run `manage.py db upgrade`."
    if revision in _known() and revision < needed_revision():
        return f"Is at migration {revision}, needs {needed_revision()}. Run `manage.py db upgrade`."
    return None


def is_ahead(revision: str | None) -> bool:
    """Return True for a migration of a newer release, which this code does not know."""
    return revision is not None and revision not in _known()


def is_missing_schema(error: DBAPIError) -> bool:
    """Return True if a table or a column does not exist."""
    code = error_code(error)
    return code in _MISSING or (isinstance(code, str) and bool(_MISSING_TEXT.search(code)))
