"""Who acts now, for the audit and the log: set around a request, read by the services, which know no request."""

from contextvars import ContextVar, Token

import msgspec


class Actor(msgspec.Struct, frozen=True):
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


def begin_acting(actor: Actor) -> Token[Actor]:
    """Say who acts from here on; the result undoes it. `identify_actor` says more of them."""
    return _current.set(actor)


def end_acting(began: Token[Actor]) -> None:
    """Undo `begin_acting`, and what was said since."""
    _current.reset(began)


def identify_actor(user_id: int, session_id: str) -> None:
    """Say whose token the current request carries."""
    actor = _current.get()
    _current.set(Actor(user_id, session_id, actor.address, actor.request_id))
