"""All that is held about one person, for that person (GDPR, articles 15 and 20)."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from apps.database.transaction import transactional
from apps.errors import UserNotFound
from apps.extensions import db
from apps.models import AuditEvent, Session, User
from apps.services.audit import record

_MAX_ROWS = 10_000  # rows of a kind, the latest ones


@dataclass(frozen=True, slots=True)
class Export:
    """The rows."""

    user: User
    sessions: Sequence[Session]
    events: Sequence[AuditEvent]


@transactional
def export_user(user_id: int) -> Export:
    """Return what is held about a user; that it was asked for is an event as well. Raises `UserNotFound`."""
    user = db.session.get(User, user_id)
    if user is None:
        raise UserNotFound(user_id)
    sessions = select(Session).where(Session.user_id == user_id).order_by(Session.create_time.desc()).limit(_MAX_ROWS)
    events = select(AuditEvent).where(AuditEvent.subject_id == user_id).order_by(AuditEvent.id.desc()).limit(_MAX_ROWS)
    export = Export(user, db.session.scalars(sessions).all(), db.session.scalars(events).all())
    record("user.export", user_id)
    return export
