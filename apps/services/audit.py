"""The audit: security events, each written in the transaction of the change it records, linked as a hash chain."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
from sqlalchemy import Select, delete, event, select
from sqlalchemy.orm import Session as OrmSession

from apps.database.transaction import reading, transactional
from apps.extensions import db
from apps.models import AuditEvent, AuditHead
from apps.observability.request_context import current_context
from apps.utils import clock

logger = logging.getLogger(__name__)

_LINES = "audit lines to log after the commit"  # key of `Session.info`
_BATCH = 1000  # rows per query of `verify`


def record(name: str, subject_id: int | None, *, outcome: str = "success", **detail: Any) -> None:
    """Add an event to the caller's transaction, as its last step. After the commit, the event is logged too.

    It locks the audit's head, so no other transaction can add an event until the commit. `name` has the form
    "thing.deed". `detail` must not hold a secret.
    """
    head = lock_head()
    actor = current_context()
    row = AuditEvent(
        id=head.last_event_id + 1,
        time=clock.now(),
        event=name,
        outcome=outcome,
        actor_id=actor.user_id,
        subject_id=subject_id,
        session_id=actor.session_id,
        address=pseudonym(actor.address),
        request_id=actor.request_id,
        detail=encode_detail(detail),
    )
    row.hash = _chain_hash(head.hash, row)
    db.session.add(row)
    head.last_event_id, head.hash = row.id, row.hash
    db.session.info.setdefault(_LINES, []).append(_describe(row) | {"address": actor.address})


def lock_head() -> AuditHead:
    """Return the row of the last event, locked: no other transaction can add an event until the commit."""
    head = db.session.get(AuditHead, 1, with_for_update=True)
    if head is None:
        raise RuntimeError("the audit has no head: run `manage.py db upgrade`")
    return head


def encode_detail(detail: Mapping[str, Any]) -> str:
    """Return the text in which the column `detail` stores these facts: equal facts have equal texts."""
    return msgspec.json.encode(detail, order="sorted").decode()


@transactional
def record_alone(name: str, subject_id: int | None, *, outcome: str, **detail: Any) -> None:
    """Add an event in a transaction of its own, for something that changes nothing else, such as a failed login."""
    record(name, subject_id, outcome=outcome, **detail)


@reading
def read_events(subject_id: int | None, before: int | None, limit: int) -> Sequence[AuditEvent]:
    """Return up to `limit` events, latest first.

    `subject_id` selects the events of one user, `before` those with a smaller id; None selects all.
    """
    query: Select[AuditEvent] = select(AuditEvent).order_by(AuditEvent.id.desc()).limit(limit)
    if subject_id is not None:
        query = query.where(AuditEvent.subject_id == subject_id)
    if before is not None:
        query = query.where(AuditEvent.id < before)
    return db.session.scalars(query).all()


class BrokenChain(Exception):
    """The audit was changed outside of this service; the message says where."""


@reading
def verify() -> int:
    """Check the seal of every event and return the number of events. Raises `BrokenChain`.

    It reads one snapshot of the database, so it can run beside the service. It does not see events that are added
    meanwhile.
    """
    if db.engine.dialect.name != "sqlite":  # SQLite's transactions always read one snapshot
        db.session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    head = db.session.get(AuditHead, 1)
    if head is None:
        raise BrokenChain("the audit_head row is missing")
    first, end = head.purged_until_id, (head.last_event_id, bytes(head.hash))
    previous, last = head.purged_hash or bytes(32), first
    is_purge_recorded = first == 0
    for row in _all_events():
        last += 1
        if row.id != last:
            raise BrokenChain(f"event {last} is missing")
        if bytes(row.hash) != _chain_hash(previous, row):
            raise BrokenChain(f"event {row.id} was changed")
        previous = bytes(row.hash)
        is_purge_recorded = is_purge_recorded or _records_purge(row, first)
    if end != (last, previous):
        raise BrokenChain(f"events after {last} are missing")
    if not is_purge_recorded:
        raise BrokenChain(f"events up to {first} were deleted, and no event records a purge up to there")
    return last - first


def purge(age: timedelta, batch: int) -> int:
    """Delete the events that are older than `age` and return their number.

    Each transaction deletes at most `batch` events and records that as an event. The head keeps the seal of the last
    deleted event, because the seal of the next one builds on it.
    """
    total = 0
    while deleted := _purge(clock.now() - age, batch):
        total += deleted
    return total


def _records_purge(row: AuditEvent, until: int) -> bool:
    return row.event == "audit.purge" and row.detail.endswith(f'"until":{until}}}')  # as `record` writes it


@transactional
def _purge(before: datetime, batch: int) -> int:
    head = db.session.get_one(AuditHead, 1, with_for_update=True)
    rows = select(AuditEvent).where(AuditEvent.time < before, AuditEvent.id > head.purged_until_id)
    events = db.session.scalars(rows.order_by(AuditEvent.id).limit(batch)).all()
    # Only ids without a gap from the beginning: a clock that was set back gives a later event an earlier time.
    old = [row for index, row in enumerate(events, start=head.purged_until_id + 1) if row.id == index]
    if not old:
        return 0
    head.purged_until_id, head.purged_hash = old[-1].id, bytes(old[-1].hash)
    db.session.flush()  # first: a trigger refuses to delete events that the head does not mark as purged
    db.session.execute(delete(AuditEvent).where(AuditEvent.id <= old[-1].id))
    record("audit.purge", None, until=old[-1].id, count=len(old))
    return len(old)


def pseudonym(address: str | None) -> str | None:
    """Truncate an address to /24 or /48: audit rows are kept for ever and must not identify a person.

    Returns None if it is no IP address. The log line holds the full address, for as long as logs are kept.
    """
    try:
        parsed = ip_address(address or "")
    except ValueError:  # a unix socket, or any text that a proxy forwards
        return None
    return str(ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))


def _all_events() -> Iterator[AuditEvent]:
    last = -(2**63)  # not 0, to find a row that was inserted before the first one
    while rows := db.session.scalars(
        select(AuditEvent).where(AuditEvent.id > last).order_by(AuditEvent.id).limit(_BATCH)
    ).all():
        yield from rows
        last = rows[-1].id
        db.session.expunge_all()


def _chain_hash(previous: bytes, row: AuditEvent) -> bytes:
    """Return the seal of an event: SHA-256 of the previous event's seal and of this event's content."""
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
    if not session.in_nested_transaction():  # the end of a savepoint is no commit
        for line in session.info.pop(_LINES, []):
            logger.info("audit", extra=line)
