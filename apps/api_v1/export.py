"""Export of everything that is stored about a user."""

from datetime import datetime

import msgspec
from flask import Response

from apps.api_v1.answers import mobile_of
from apps.api_v1.audit import AuditEventAnswer, answer_event, is_traceable
from apps.api_v1.blueprint import api_v1
from apps.errors import UserNotFound
from apps.http.contract import Policy
from apps.http.endpoint import endpoint
from apps.models import AuditEvent
from apps.services import export as exports
from apps.services.identity_cache import Identity
from apps.utils.response import HttpResponse


class ExportedUser(msgspec.Struct):
    """The account. It has no password: only a hash is stored."""

    id: int
    username: str
    mobile: str | None
    age: int
    birth: datetime
    photo: str | None
    role: str
    block_time: datetime | None
    create_time: datetime
    update_time: datetime
    unreadable: list[str] | msgspec.UnsetType = msgspec.UNSET  # fields that are null because they cannot be decrypted


_COLUMNS = set(ExportedUser.__struct_fields__) - {"mobile", "unreadable"}


class ExportedSession(msgspec.Struct):
    """A session. Ended sessions are included for as long as they are kept."""

    id: str
    device: str
    address: str
    create_time: datetime
    last_used_time: datetime
    end_time: datetime
    revoke_time: datetime | None
    revoke_reason: str | None


class ExportedEvent(AuditEventAnswer):
    """An event, with the id of its request."""

    request_id: str | None


class ExportAnswer(msgspec.Struct):
    """Everything that is stored about a user."""

    user: ExportedUser
    sessions: list[ExportedSession]
    audit: list[ExportedEvent]


@api_v1.get("/users/<id:user_id>/export")
@endpoint(
    policy=Policy.SELF_OR_ADMIN,
    token="access",
    is_fresh=True,
    answer=ExportAnswer,
    account_limit="UPDATE_ACCOUNT_LIMIT",
    errors=(UserNotFound,),
)
def export_user(user_id: int, identity: Identity) -> Response:
    """Export everything that is stored about a user: yourself or, as an admin, any user."""
    found = exports.export_user(user_id)
    user = found.user
    return HttpResponse.success(
        ExportAnswer(
            ExportedUser(**{name: getattr(user, name) for name in _COLUMNS}, **mobile_of(user)),
            [
                ExportedSession(
                    *(row.id, row.user_agent, row.address, row.create_time, row.last_used_time, row.end_time),
                    row.revoke_time,
                    row.revoke_reason,
                )
                for row in found.sessions
            ],
            [_exported_event(row, identity) for row in found.events],
        )
    )


def _exported_event(row: AuditEvent, reader: Identity) -> ExportedEvent:
    request_id = row.request_id if is_traceable(row, reader) else None
    return ExportedEvent(**msgspec.structs.asdict(answer_event(row, reader)), request_id=request_id)
