"""The audit: append-only events, each sealed by a hash over itself and the previous event."""

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from apps.models.base import Digest, ExactString, Id, Model, UtcDateTime


class AuditEvent(Model):
    """An event. It refers to users by id without a foreign key, because it outlives them."""

    __tablename__ = "audit_events"
    __table_args__ = (Index("ix_audit_events_subject_id_id", "subject_id", "id"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)  # position in the chain, from 1
    time: Mapped[datetime] = mapped_column(UtcDateTime)
    event: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(16))
    actor_id: Mapped[int | None] = mapped_column(Id)
    subject_id: Mapped[int | None] = mapped_column(Id)
    session_id: Mapped[str | None] = mapped_column(ExactString(32))
    address: Mapped[str | None] = mapped_column(String(64))
    request_id: Mapped[str | None] = mapped_column(String(64))
    detail: Mapped[str] = mapped_column(ExactString(1024))  # a JSON object
    hash: Mapped[bytes] = mapped_column(Digest)


class AuditHead(Model):
    """The end of the chain: a single row. Every writer locks it; it reveals if the last events were removed."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last_event_id: Mapped[int] = mapped_column(Id)
    hash: Mapped[bytes] = mapped_column(Digest)
    purged_until_id: Mapped[int] = mapped_column(Id, server_default="0")  # events up to this one are deleted
    purged_hash: Mapped[bytes | None] = mapped_column(Digest)  # the seal of that event
