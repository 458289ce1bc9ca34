"""The security events of accounts."""

from datetime import datetime
from typing import Any

import msgspec
from flask import Response

from apps.api_v1.blueprint import api_v1
from apps.errors import Forbidden
from apps.forms.audit import AuditQuery
from apps.http.contract import Policy
from apps.http.endpoint import endpoint
from apps.models import AuditEvent
from apps.services.audit import read_events
from apps.services.identity_cache import Identity
from apps.utils.response import HttpResponse

_DEFAULT_LIMIT = 50


class AuditEventAnswer(msgspec.Struct):
    """One event. The keys of `detail` depend on the kind of event.

    `actor_id` is null if nobody with a token acted. Unless the reader is an admin, it is also null if another user did.
    """

    id: int
    time: datetime
    event: str
    outcome: str
    actor_id: int | None
    subject_id: int | None
    session_id: str | None
    address: str | None
    detail: dict[str, Any]


class AuditAnswer(msgspec.Struct):
    """A page of events, the latest first. `next` is the `cursor` of the next page, null on the last page."""

    data: list[AuditEventAnswer]
    next: int | None


@api_v1.get("/audit")
@endpoint(policy=Policy.SELF, token="access", query=AuditQuery, answer=AuditAnswer, errors=(Forbidden,))
def list_audit_events(identity: Identity, query: dict[str, Any]) -> Response:
    """List the security events of your account or, as an admin, of all users or one (`user_id`)."""
    subject_id = query.get("user_id")
    if identity.user.role != "admin":
        if subject_id not in (None, identity.user.id):
            raise Forbidden
        subject_id = identity.user.id
    limit = query.get("limit", _DEFAULT_LIMIT)
    rows = read_events(subject_id, query.get("cursor"), limit + 1)
    page = rows[:limit]
    answers = [answer_event(row, identity) for row in page]
    return HttpResponse.success(AuditAnswer(answers, page[-1].id if len(rows) > limit else None))


def is_traceable(row: AuditEvent, reader: Identity) -> bool:
    """Return True if the reader may see who acted and from where. An account's owner must not trace an admin."""
    return reader.user.role == "admin" or row.actor_id in (None, reader.user.id)


def answer_event(row: AuditEvent, reader: Identity) -> AuditEventAnswer:
    """Return the event as the reader may see it: without actor, session and address unless it is traceable."""
    who_and_where = (row.actor_id, row.session_id, row.address) if is_traceable(row, reader) else (None, None, None)
    actor_id, session_id, address = who_and_where
    return AuditEventAnswer(
        *(row.id, row.time, row.event, row.outcome, actor_id, row.subject_id, session_id, address),
        detail=msgspec.json.decode(row.detail),
    )
