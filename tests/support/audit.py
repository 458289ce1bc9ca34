"""Read and replace the audit as the owner of the database can, past its triggers."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, text

from apps.extensions import db
from apps.models import AuditEvent, AuditHead

Row = dict[str, Any]
NEW_HEAD = {"id": 1, "last_event_id": 0, "hash": bytes(32), "purged_until_id": 0, "purged_hash": None}


def read_audit() -> tuple[list[Row], Row]:
    """Return the events and the head."""
    events = db.session.execute(AuditEvent.__table__.select().order_by(AuditEvent.id)).mappings()
    head = db.session.execute(AuditHead.__table__.select()).mappings()
    return [dict(row) for row in events], dict(head.one())


def write_audit(events: Sequence[Row], *heads: Row) -> None:
    """Replace all rows of both tables."""
    _empty[db.engine.dialect.name]()
    for table, rows in ((AuditEvent.__table__, events), (AuditHead.__table__, heads)):
        for row in rows:
            db.session.execute(insert(table).values(row))
    db.session.commit()


def _execute(*statements: str) -> None:
    for statement in statements:
        db.session.execute(text(statement))


def _empty_sqlite() -> None:
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name LIKE 'audit%'"
    triggers = db.session.execute(text(query)).all()
    _execute(*(f"DROP TRIGGER {name}" for name, _ in triggers))
    _execute("DELETE FROM audit_events", "DELETE FROM audit_head", *(made for _, made in triggers))


def _empty_postgresql() -> None:
    tables = ("audit_events", "audit_head")
    _execute(*(f"ALTER TABLE {table} DISABLE TRIGGER USER" for table in tables))
    _execute("TRUNCATE TABLE audit_events, audit_head")
    _execute(*(f"ALTER TABLE {table} ENABLE TRIGGER USER" for table in tables))


def _empty_mariadb() -> None:
    _execute("TRUNCATE TABLE audit_events", "TRUNCATE TABLE audit_head")  # TRUNCATE fires no trigger


_empty = {"sqlite": _empty_sqlite, "postgresql": _empty_postgresql, "mysql": _empty_mariadb, "mariadb": _empty_mariadb}
