"""Sessions: list your own, end one, some or all of them."""

from datetime import datetime

import msgspec
from flask import Response

from apps.api_v1.answers import NoAnswer
from apps.api_v1.blueprint import api_v1
from apps.errors import SessionNotFound
from apps.forms.session import LogoutForm
from apps.http import cookies
from apps.http.contract import Policy
from apps.http.endpoint import endpoint
from apps.services import session as sessions
from apps.services.identity_cache import Identity
from apps.utils.response import HttpResponse


class SessionAnswer(msgspec.Struct):
    """A session as its user recognises it. `device` is the User-Agent that the client sent at login."""

    id: str
    device: str
    address: str
    create_time: datetime
    last_used_time: datetime
    current: bool


class SessionListAnswer(msgspec.Struct):
    """The live sessions, the most recently used first."""

    data: list[SessionAnswer]


@api_v1.get("/sessions")
@endpoint(policy=Policy.SELF, token="access", answer=SessionListAnswer, links=("end_session",))
def list_sessions(identity: Identity) -> Response:
    """List your live sessions."""
    answers = [
        SessionAnswer(
            id=row.id,
            device=row.user_agent,
            address=row.address,
            create_time=row.create_time,
            last_used_time=row.last_used_time,
            current=row.id == identity.session.id,
        )
        for row in sessions.list_sessions(identity.user.id)
    ]
    return HttpResponse.success(SessionListAnswer(answers))


@api_v1.delete("/sessions/<session:session_id>")
@endpoint(policy=Policy.SELF, token="access", answer=NoAnswer, errors=(SessionNotFound,))
def end_session(session_id: str, identity: Identity) -> Response:
    """End one of your sessions."""
    sessions.end_own_session(identity.user.id, session_id)
    return _answer_logout() if session_id == identity.session.id else HttpResponse.success()


@api_v1.delete("/sessions")
@endpoint(policy=Policy.SELF, token="access", answer=NoAnswer)
def end_other_sessions(identity: Identity) -> Response:
    """End all your sessions except this one."""
    sessions.end_sessions(identity.user.id, "others", "ended_by_user", identity.session.id)
    return HttpResponse.success()


@api_v1.post("/logout")
@endpoint(policy=Policy.SELF, token="access", is_logout=True, form=LogoutForm, answer=NoAnswer)
def logout(identity: Identity, form: LogoutForm) -> Response:
    """Log out: end this session or, with `{"everywhere": true}`, all your sessions.

    Either token of the session is accepted, also after it expired.
    """
    sessions.log_out(identity.session, everywhere=form.everywhere.data)
    return _answer_logout()


def _answer_logout() -> Response:
    """Answer a request that ended its own session, and delete its cookies."""
    response = HttpResponse.success()
    cookies.clear_tokens(response)
    return response
