"""The Flask subclass: Flask without the per-request work that this service does not use."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Request
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import MapAdapter


class NoSessions(SessionInterface):
    """Disables Flask's cookie sessions. Clients hold tokens instead."""

    _none = NullSession()

    def open_session(self, *_: object) -> NullSession:
        """Return the shared empty session."""
        return self._none


class Service(Flask):
    """Flask without cookie sessions, host matching and support for async views."""

    session_interface = NoSessions()

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return an adapter that matches by method and path only; `Host` and `Upgrade` cannot change the route."""
        if request is None:
            return None
        path = request.environ.get("PATH_INFO", "").encode("latin-1").decode(errors="replace")  # PEP 3333
        return MapAdapter(self.url_map, "", request.root_path, "", request.scheme, path, request.method)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return `func` unchanged: no view is async."""
        return func
