"""The context of the current request, for the audit and the log. Services read it and know no request."""

from contextvars import ContextVar, Token

import msgspec


class RequestContext(msgspec.Struct, frozen=True):
    """The client behind a service call: for the audit and the log. All fields are None in a `manage.py` command."""

    user_id: int | None = None
    session_id: str | None = None
    address: str | None = None
    request_id: str | None = None


_OPERATOR = RequestContext()
_current: ContextVar[RequestContext] = ContextVar("request_context", default=_OPERATOR)


def current_context() -> RequestContext:
    """Return the context of the current request, or an empty one."""
    return _current.get()


def bind(context: RequestContext) -> Token[RequestContext]:
    """Bind the context of the current request; pass the returned token to `reset`."""
    return _current.set(context)


def reset(token: Token[RequestContext]) -> None:
    """Restore the context from before `bind`."""
    _current.reset(token)


def bind_identity(user_id: int, session_id: str) -> None:
    """Add the user and the session of the verified token to the current context."""
    context = _current.get()
    _current.set(RequestContext(user_id, session_id, context.address, context.request_id))
