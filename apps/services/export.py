"""Export of all data about a user, for that user (GDPR, articles 15 and 20)."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from apps.database.transaction import transactional
from apps.errors import UserNotFound
from apps.extensions import db
from apps.models import AuditEvent, Session, User
from apps.services.audit import record

_MAX_ROWS = 10_000  # per table, the latest ones


@dataclass(frozen=True, slots=True)
class Export:
    """The rows about a user."""

    user: User
    sessions: Sequence[Session]
    events: Sequence[AuditEvent]


@transactional
def export_user(user_id: int) -> Export:
    """Return all data about a user; the export itself is audited. Raises `UserNotFound`."""
    user = db.session.get(User, user_id)
    if user is None:
        raise UserNotFound(user_id)
    sessions = select(Session).where(Session.user_id == user_id).order_by(Session.create_time.desc()).limit(_MAX_ROWS)
    events = select(AuditEvent).where(AuditEvent.subject_id == user_id).order_by(AuditEvent.id.desc()).limit(_MAX_ROWS)
    export = Export(user, db.session.scalars(sessions).all(), db.session.scalars(events).all())
    record("user.export", user_id)
    return export
