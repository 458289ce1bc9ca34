"""Sessions: list one's own, end one, some or all."""

from datetime import datetime

import msgspec
from flask import Response

from apps.api_v1.blueprint import api_v1
from apps.api_v1.user import NoAnswer
from apps.errors import SessionNotFound
from apps.forms.session import LogoutForm
from apps.http import cookies
from apps.http.contract import Policy
from apps.http.endpoint import endpoint
from apps.services import session as sessions
from apps.services.token import Identity
from apps.utils.response import HttpResponse


class SessionAnswer(msgspec.Struct):
    """A session as its user recognises it; `device` is what the client said of itself at login."""

    id: str
    device: str
    address: str
    create_time: datetime
    last_used_time: datetime
    current: bool


class SessionListAnswer(msgspec.Struct):
    """The live sessions, the one used last first."""

    data: list[SessionAnswer]


@api_v1.get("/sessions")
@endpoint(policy=Policy.SELF, token="access", answer=SessionListAnswer)
def list_sessions(identity: Identity) -> Response:
    """List your live sessions."""
    rows = sessions.list_sessions(identity.user.id)
    answers = [
        SessionAnswer(
            row.id, row.user_agent, row.address, row.create_time, row.last_used_time, row.id == identity.session.id
        )
        for row in rows
    ]
    return HttpResponse.success(SessionListAnswer(answers))


@api_v1.delete("/sessions/<session:session_id>")
@endpoint(policy=Policy.SELF, token="access", answer=NoAnswer, errors=(SessionNotFound,))
def end_session(session_id: str, identity: Identity) -> Response:
    """End one of your sessions."""
    sessions.end_own_session(identity.user.id, session_id)
    return _answer_log_out() if session_id == identity.session.id else HttpResponse.success()


@api_v1.delete("/sessions")
@endpoint(policy=Policy.SELF, token="access", answer=NoAnswer)
def end_other_sessions(identity: Identity) -> Response:
    """End all your sessions but this one."""
    sessions.end_all_sessions(identity.user.id, identity.session.id, "ended_by_user")
    return HttpResponse.success()


@api_v1.post("/logout")
@endpoint(policy=Policy.SELF, token="access", form=LogoutForm, answer=NoAnswer)
def logout(identity: Identity, form: LogoutForm) -> Response:
    """Log out: end this session or, with `{"everywhere": true}`, all of yours."""
    if form.everywhere.data:
        sessions.end_all_sessions(identity.user.id, None, "logout")
    else:
        sessions.end_session(identity.session.id, "logout")
    return _answer_log_out()


def _answer_log_out() -> Response:
    """Answer that the session which asked is over: its cookies go too."""
    response = HttpResponse.success()
    cookies.clear_tokens(response)
    return response
