"""Who acts now, for the audit: set around a request or a command, read by the services, which know no request."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """Where an act comes from. Nothing of it is known of a command: that one is the operator's."""

    user_id: int | None = None
    session_id: str | None = None
    address: str | None = None
    request_id: str | None = None


_OPERATOR = Actor()
_current: ContextVar[Actor] = ContextVar("actor", default=_OPERATOR)


def current_actor() -> Actor:
    """Return who acts."""
    return _current.get()


def set_actor(actor: Actor) -> None:
    """Say who acts from here on, in this request."""
    _current.set(actor)
