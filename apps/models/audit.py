"""What happened to accounts: rows that are only ever added, each sealed by the hash of the one before."""

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from apps.models.base import Digest, ExactString, Id, Model, UtcDateTime


class AuditEvent(Model):
    """One event. It names users by id without a foreign key, because it outlives them."""

    __tablename__ = "audit_events"
    __table_args__ = (Index("ix_audit_events_subject_id_id", "subject_id", "id"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)  # its place in the chain, from 1
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
    """The end of the chain: one row, which every writer locks, and which shows when rows were cut off."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last_event_id: Mapped[int] = mapped_column(Id)
    hash: Mapped[bytes] = mapped_column(Digest)
    purged_until_id: Mapped[int] = mapped_column(Id, server_default="0")  # events up to this one are deleted
    purged_hash: Mapped[bytes | None] = mapped_column(Digest)  # and this was its seal
