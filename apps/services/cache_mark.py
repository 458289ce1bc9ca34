"""Marks of changed users and sessions: `@transactional` publishes these rows to the cache after the commit.

A flush of the ORM marks the rows that it changes or deletes. A service marks new rows, and the rows that its statements
(UPDATE, DELETE) change. docs/cache.md shows both.
"""

from collections.abc import Iterable
from typing import Any, Literal
from weakref import WeakSet

from sqlalchemy import Insert, Result, TextClause, event
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.orm import Session as OrmSession

from apps.database.transaction import in_transaction, marks
from apps.extensions import db
from apps.models import Session, User

KEEPS_CACHE = {"keeps_cache": True}  # execution options of a statement that leaves every cache entry valid
_MODELS = (User, Session)
_TABLES = frozenset(model.metadata.tables[model.__tablename__] for model in _MODELS)

# Keys of `Session.info`.
_INSERTED = "cached rows that this transaction inserted"
_STATEMENTS = "tables that statements changed"
_MARKED = "tables of rows that the service marked"


def cache_new(*rows: User | Session) -> None:
    """Mark new or unchanged rows, to be written to the cache after the commit. If Redis fails, they are not cached."""
    for row in rows:
        marks().setdefault(row, "new")


def cache_changed(*rows: User | Session) -> None:
    """Mark changed rows, to be written to the cache after the commit, so that no process serves the old ones.

    A flush of the ORM marks its rows itself. After an UPDATE by Core, call this with the updated rows.
    """
    _mark(rows, "changed")


def cache_deleted(*rows: User | Session) -> None:
    """Mark deleted rows, to become tombstones in the cache after the commit. A user's tombstone ends all sessions."""
    _mark(rows, "deleted")


def require_marks() -> None:
    """Raise `RuntimeError` if a statement changed users or sessions, and the service marked no row of that table."""
    if db.session.info.get(_STATEMENTS, set()) - db.session.info.get(_MARKED, set()):
        raise RuntimeError("UPDATE or DELETE of cached rows without cache_changed or cache_deleted")


def _mark(rows: Iterable[User | Session], change: Literal["changed", "deleted"]) -> None:
    for row in rows:
        marks()[row] = change
        db.session.info.setdefault(_MARKED, set()).add(row.__table__)


@event.listens_for(OrmSession, "before_flush")  # after it, a column that was set to an SQL expression is not modified
def _mark_flushed(session: OrmSession, _context: object, _instances: object) -> None:
    """Mark changed and deleted rows, except those that this transaction inserted: they are in no cache yet."""
    if not in_transaction(session):
        return
    inserted = session.info.setdefault(_INSERTED, WeakSet())
    inserted.update(row for row in session.new if isinstance(row, _MODELS))
    changed = [row for row in session.dirty if isinstance(row, _MODELS) and row not in inserted]
    marks().update((row, "changed") for row in changed if session.is_modified(row))
    marks().update((row, "deleted") for row in session.deleted if isinstance(row, _MODELS))


@event.listens_for(OrmSession, "do_orm_execute")
def _note_statement(state: ORMExecuteState) -> Result[Any] | None:
    """Note the tables of a statement that changes cached rows: no flush sees it."""
    tables = _changed_tables(state.statement)
    if not tables or not in_transaction(state.session) or state.execution_options.get("keeps_cache"):
        return None
    result: Result[Any] = state.invoke_statement()
    if getattr(result, "rowcount", -1):  # -1 if the driver does not tell
        state.session.info.setdefault(_STATEMENTS, set()).update(tables)
    return result


def _changed_tables(statement: object) -> frozenset[Any]:
    if isinstance(statement, TextClause):
        text = statement.text.lower()
        return frozenset(table for table in _TABLES if table.name in text and not text.lstrip().startswith("select"))
    is_plain_insert = isinstance(statement, Insert) and statement._post_values_clause is None  # not an upsert
    return frozenset() if is_plain_insert else _TABLES & {getattr(statement, "table", None)}
