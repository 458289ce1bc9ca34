"""Encrypted fields that cannot be decrypted: the row was changed or swapped, or its key is not configured.

Each attempt to read one is logged, without a traceback, and counted. A request that needs the field is refused, and the
audit gets one event an hour and row.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta

from cachetools import TTLCache
from flask import Flask, current_app
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from apps.database.transaction import transactional
from apps.errors import DatabaseUnavailable, DataUnreadable
from apps.extensions import db
from apps.models import AuditEvent
from apps.security.field_encryption import Undecryptable
from apps.services.audit import encode_detail, lock_head, record
from apps.utils import clock

logger = logging.getLogger(__name__)

_AUDIT_INTERVAL = timedelta(hours=1)


class UnreadableFields:
    """The state of one process. Metrics replace `on_unreadable`, which is called with the name of the field."""

    def __init__(self) -> None:
        self.on_unreadable: Callable[[str], None] = lambda _field: None
        # Rows that were audited within the interval. Threads may race for it: `_record_once` decides.
        self.audited: TTLCache[str | int, bool] = TTLCache(10_000, _AUDIT_INTERVAL.total_seconds())


def init_app(app: Flask) -> None:
    """Give `app` its `UnreadableFields`."""
    app.extensions["unreadable_fields"] = UnreadableFields()


def log_unreadable(field: str, owner: str | int, error: Undecryptable | ValueError | TypeError) -> None:
    """Log and count a field that could not be decrypted. `owner` is the id of its row."""
    fields: UnreadableFields = current_app.extensions["unreadable_fields"]
    fields.on_unreadable(field)
    extra = {"event": "field.unreadable", "field": field, "owner": owner, "cause": str(error)}
    logger.error("encrypted field cannot be decrypted: run `manage.py keys check`", extra=extra)


def report_unreadable_mobile(user_id: int, error: Undecryptable) -> DataUnreadable:
    """Log, count and audit a mobile number that could not be decrypted. Return the error to raise.

    Call it outside of a transaction: a rollback would remove the audit event.
    """
    log_unreadable("mobile", user_id, error)
    audit_unreadable("user.unreadable", user_id, field="mobile")
    return DataUnreadable()


def audit_unreadable(event: str, owner: str | int, **detail: str) -> None:
    """Audit an unreadable field at most once an hour, over all processes. `owner` is the id of a user or of a key."""
    fields: UnreadableFields = current_app.extensions["unreadable_fields"]
    if owner in fields.audited:
        return
    try:
        _record_once(event, owner if isinstance(owner, int) else None, detail)
        fields.audited[owner] = True
    except (SQLAlchemyError, DatabaseUnavailable) as failure:  # a read from the cache needs no database
        extra = {"event": "audit.unwritten", "cause": type(failure).__name__}
        logger.warning("unreadable field not audited: the database does not answer", extra=extra)


@transactional
def _record_once(event: str, user_id: int | None, detail: Mapping[str, str]) -> None:
    lock_head()  # so that no other process adds an event meanwhile
    since = clock.now() - _AUDIT_INTERVAL
    same = select(AuditEvent.id).where(
        AuditEvent.subject_id == user_id, AuditEvent.event == event, AuditEvent.detail == encode_detail(detail)
    )
    if db.session.scalar(same.where(AuditEvent.time > since).limit(1)) is None:
        record(event, user_id, outcome="failure", **detail)
