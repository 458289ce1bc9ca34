"""The audit: security events, written in the transaction of what they tell of, and checked as a chain."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Select, event, select
from sqlalchemy.orm import Session as OrmSession

from apps.extensions import db
from apps.models import AuditEvent, AuditHead
from apps.utils import clock
from apps.utils.actor import current_actor
from apps.utils.transaction import reading, transactional

logger = logging.getLogger(__name__)

_LINES = "audit lines that wait for the commit"
_BATCH = 1000


def record(name: str, subject_id: int | None, *, outcome: str = "success", **detail: Any) -> None:
    """Add an event to the caller's transaction, as its last act: from here to the commit no other event can be added.

    `name` reads "thing.deed"; `detail` holds no secret. After the commit it is logged too.
    """
    head = db.session.get(AuditHead, 1, with_for_update=True)
    if head is None:
        raise RuntimeError("the audit has no head: run `manage.py db upgrade`")
    actor = current_actor()
    row = AuditEvent(
        id=head.last_event_id + 1,
        time=clock.now(),
        event=name,
        outcome=outcome,
        actor_id=actor.user_id,
        subject_id=subject_id,
        session_id=actor.session_id,
        address=actor.address,
        request_id=actor.request_id,
        detail=msgspec.json.encode(detail, order="sorted").decode(),
    )
    row.hash = _seal(head.hash, row)
    db.session.add(row)
    head.last_event_id, head.hash = row.id, row.hash
    db.session.info.setdefault(_LINES, []).append(_describe(row))


@transactional
def record_alone(name: str, subject_id: int | None, *, outcome: str, **detail: Any) -> None:
    """Add an event that goes with no change: a login that failed."""
    record(name, subject_id, outcome=outcome, **detail)


@reading
def read_events(subject_id: int | None, before: int | None, limit: int) -> Sequence[AuditEvent]:
    """Return up to `limit` events, latest first and before the event `before`, of one user or, for None, of all."""
    query: Select[AuditEvent] = select(AuditEvent).order_by(AuditEvent.id.desc()).limit(limit)
    if subject_id is not None:
        query = query.where(AuditEvent.subject_id == subject_id)
    if before is not None:
        query = query.where(AuditEvent.id < before)
    return db.session.scalars(query).all()


class BrokenChain(Exception):
    """The audit was changed by something else than this service; the message says where."""


@reading
def verify() -> int:
    """Check every seal and return how many events there are. Raises `BrokenChain`.

    It looks at one moment, so it can run beside the service: events that are added meanwhile are for the next time.
    """
    if db.engine.dialect.name != "sqlite":  # where every transaction does
        db.session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    previous, count = bytes(32), 0
    for row in _all_events():
        count += 1
        if row.id != count:
            raise BrokenChain(f"event {count} is missing")
        if bytes(row.hash) != _seal(previous, row):
            raise BrokenChain(f"event {row.id} was changed")
        previous = bytes(row.hash)
    head = db.session.get_one(AuditHead, 1)
    if (head.last_event_id, bytes(head.hash)) != (count, previous):
        raise BrokenChain(f"events after {count} are missing")
    return count


def _all_events() -> Iterator[AuditEvent]:
    last = -(2**63)  # not 0: a row that was put before the first one is found too
    while rows := db.session.scalars(
        select(AuditEvent).where(AuditEvent.id > last).order_by(AuditEvent.id).limit(_BATCH)
    ).all():
        yield from rows
        last = rows[-1].id
        db.session.expunge_all()


def _seal(previous: bytes, row: AuditEvent) -> bytes:
    """Return SHA-256 over the seal of the event before and all that this one says."""
    return hashlib.sha256(previous + msgspec.json.encode(_describe(row), order="sorted")).digest()


def _describe(row: AuditEvent) -> dict[str, Any]:
    return {
        "event_id": row.id,
        "event_time": row.time.isoformat(timespec="microseconds"),
        "event": row.event,
        "outcome": row.outcome,
        "actor_id": row.actor_id,
        "subject_id": row.subject_id,
        "session_id": row.session_id,
        "address": row.address,
        "audit_request_id": row.request_id,
        "detail": row.detail,
    }


@event.listens_for(OrmSession, "after_commit")
def _log(session: OrmSession) -> None:
    for line in session.info.pop(_LINES, []):
        logger.info("audit", extra=line)


@event.listens_for(OrmSession, "after_rollback")
def _forget(session: OrmSession) -> None:
    session.info.pop(_LINES, None)
