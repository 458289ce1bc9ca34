"""Gatehouse: user accounts and JWT access and refresh tokens, as a Flask REST API."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from flask import Flask, Request
from flask.cli import AppGroup
from flask.sessions import NullSession, SessionInterface
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import MapAdapter

from apps import extensions, models  # noqa: F401 (the tables are declared before anything reads them)
from apps.api_v1 import api_v1
from apps.api_v1.health import health
from apps.api_v1.key import well_known
from apps.config import load_settings
from apps.database import bulkhead, engine, timeouts
from apps.errors import register_errors
from apps.http import converters, headers
from apps.observability import logs
from apps.rate_limits import counter
from apps.security import password_hash
from apps.services import cache_epoch, key, token
from apps.settings.reader import InvalidSettings

__version__ = "0.1.0"

ROOT = Path(__file__).parent.parent
TRACING = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")  # either turns tracing on


class Commands(AppGroup):
    """The command line. What it needs, which a worker would keep in memory for nothing, is imported for it alone."""

    def __init__(self, app: Flask) -> None:
        super().__init__()
        self._app = app

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command."""
        self._load()
        if cmd_name == "db":
            from apps.commands import migration_commands

            return migration_commands(self._app)
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all."""
        self._load()
        return sorted([*super().list_commands(ctx), "db"])

    def _load(self) -> None:
        if not self.commands:
            from apps.commands import register_commands

            register_commands(self._app)


class NoSessions(SessionInterface):
    """Flask's cookie sessions, not used: what the client holds is a token."""

    _none = NullSession()

    def open_session(self, *_: object) -> NullSession:
        """Return one and the same session, which keeps nothing."""
        return self._none


class Service(Flask):
    """Flask with its commands imported late, and without what no request here needs.

    Neither a session in a cookie, nor a look at the Host, nor a question about every function: is it asynchronous?
    """

    session_interface = NoSessions()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cli = Commands(self)

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds the route of `request`: by method and path alone, whatever its Host or Upgrade says."""
        if request is None:
            return None
        path = request.environ.get("PATH_INFO", "").encode("latin-1").decode(errors="replace")  # PEP 3333
        return MapAdapter(self.url_map, "", request.root_path, "", request.scheme, path, request.method)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return `func`: nothing here is."""
        return func


def create_app(config_name: str | None = None, **settings: Any) -> Flask:
    """Return the application.

    `config_name` is "development", "production" or "testing"; without it `GATEHOUSE_PROFILE` decides, else
    "development". `settings` win over every other source of settings. Raises `InvalidSettings`, which names all that
    is wrong.
    """
    app = Service("apps", instance_path=str(ROOT / "instance"), static_folder=None)
    load_settings(app, config_name, settings)
    register_extensions(app)
    register_blueprints(app)
    register_errors(app)
    register_hooks(app)
    register_observers(app)
    return app


def register_extensions(app: Flask) -> None:
    """Bind the extensions."""
    extensions.db.init_app(app)
    extensions.cache.init_app(app)
    extensions.jwt.init_app(app)
    if app.config["CORS_ORIGINS"]:  # else nothing of another origin is answered, and no request pays for the question
        # As exact patterns: Flask-CORS takes a text with any of `*[]?` for a pattern, and ignores the case of others.
        exact = [re.compile(re.escape(origin) + r"\Z") for origin in app.config["CORS_ORIGINS"]]
        with_cookies = "cookies" in app.config["JWT_TOKEN_LOCATION"]
        extensions.cors.init_app(app, origins=exact, supports_credentials=with_cookies, expose_headers=headers.EXPOSED)
    counter.init_app(app)
    password_hash.init_app(app)
    key.init_app(app)
    token.init_app(app)
    cache_epoch.init_app(app)
    bulkhead.init_app(app)
    with app.app_context():
        engine.prepare_sqlite(extensions.db.engine)
        # A second more than the server has, whose refusal is the better one.
        timeouts.limit_waiting(extensions.db.engine, app.config["STATEMENT_TIMEOUT"].total_seconds() + 1)


def register_blueprints(app: Flask) -> None:
    """Add the routes. No path is redirected to another: a redirect is an answer outside the envelope."""
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters.update(id=converters.IdConverter, session=converters.SessionIdConverter)
    app.register_blueprint(api_v1, url_prefix="/api/v1")
    app.register_blueprint(health)
    app.register_blueprint(well_known)


def register_hooks(app: Flask) -> None:
    """Add what happens around every request: whose address it is, its log line, its headers."""
    logs.configure(app.config["LOG_LEVEL"])
    application = logs.with_log(headers.with_headers(app.wsgi_app))
    proxies = app.config["TRUSTED_PROXIES"]
    if proxies:
        application = ProxyFix(application, x_for=proxies, x_proto=proxies)
    app.wsgi_app = application  # type: ignore[method-assign, assignment]


def register_observers(app: Flask) -> None:
    """Add what watches the service, where a setting asks for it; its libraries are imported for nobody else."""
    if app.config["METRICS_TOKEN"]:
        from apps.api_v1.metrics import monitoring
        from apps.observability import metrics

        app.register_blueprint(monitoring)
        metrics.init_app(app)
    try:
        if app.config["SENTRY_DSN"]:
            from apps.observability import sentry

            sentry.init_app(app)
        if any(os.environ.get(name) for name in TRACING):
            from apps.observability import tracing

            tracing.init_app(app)
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            [f"SENTRY_DSN and OTEL_*: need requirements-observe.txt ({error.name} is missing)"]
        ) from None
