"""Gatehouse: user accounts and JWT access and refresh tokens, as a Flask REST API."""

import os
import re
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from apps import extensions, models  # noqa: F401 (the tables must be declared before anything reads the metadata)
from apps.about import ROOT
from apps.api_v1 import api_v1
from apps.api_v1.docs import front_page
from apps.api_v1.health import health
from apps.api_v1.key import well_known
from apps.config import settings as settings_of  # a plain `settings` would be replaced by the package below
from apps.database import bulkhead, engine, timeouts
from apps.http import client_address, converters, cookies, headers
from apps.http.error_handlers import register_errors
from apps.http.flask_app import Service
from apps.observability import logs
from apps.rate_limits import counter
from apps.security import password_hash
from apps.services import cache_epoch, key, token, unreadable_field
from apps.settings import load_settings
from apps.settings.origins import as_sent
from apps.settings.reader import InvalidSettings

TRACING = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")  # either turns tracing on


def create_app(config_name: str | None = None, **overrides: Any) -> Flask:
    """Return the application.

    `config_name` is "development", "production" or "testing"; without it `GATEHOUSE_PROFILE` decides, else
    "development". `overrides` are settings that win over every other source. Raises `InvalidSettings`, which lists
    every problem.
    """
    app = Service("apps", instance_path=str(ROOT / "instance"), static_folder=None)
    profile = load_settings(app, config_name, overrides)
    register_extensions(app)
    register_blueprints(app)
    if profile == "development":
        app.register_blueprint(front_page)
    register_errors(app)
    register_hooks(app)
    register_observers(app)
    return app


def register_extensions(app: Flask) -> None:
    """Bind the extensions and the mechanisms that keep state per application."""
    extensions.db.init_app(app)
    extensions.cache.init_app(app)
    extensions.jwt.init_app(app)
    if settings_of(app).CORS_ORIGINS:  # otherwise no request pays for the check
        _init_cors(app)
    counter.init_app(app)
    password_hash.init_app(app)
    key.init_app(app)
    token.init_app(app)
    unreadable_field.init_app(app)
    cache_epoch.init_app(app)
    bulkhead.init_app(app)
    with app.app_context():
        engine.prepare_sqlite(extensions.db.engine)
        # One second more than the server's own timeout, because the server's error says more.
        timeouts.limit_waiting(extensions.db.engine, settings_of(app).STATEMENT_TIMEOUT.total_seconds() + 1)


def _init_cors(app: Flask) -> None:
    # Exact patterns: Flask-CORS treats a string with any of `*[]?` as a pattern, and ignores the case of others.
    exact = [re.compile(re.escape(as_sent(origin)) + r"\Z") for origin in settings_of(app).CORS_ORIGINS]
    with_cookies = "cookies" in settings_of(app).JWT_TOKEN_LOCATION
    exposed = [*headers.EXPOSED, *([cookies.CSRF_HEADER] if with_cookies else [])]
    extensions.cors.init_app(app, origins=exact, supports_credentials=with_cookies, expose_headers=exposed)


def register_blueprints(app: Flask) -> None:
    """Add the routes. None redirects to the same path with or without a slash: that answer would have no envelope."""
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters.update(id=converters.IdConverter, session=converters.SessionIdConverter)
    app.register_blueprint(api_v1, url_prefix="/api/v1")
    app.register_blueprint(health)
    app.register_blueprint(well_known)


def register_hooks(app: Flask) -> None:
    """Add what wraps every request: the client's address behind proxies, the log line, the security headers."""
    logs.configure(settings_of(app))
    application = client_address.with_plain_address(logs.with_log(headers.with_headers(app.wsgi_app)))
    proxies = settings_of(app).TRUSTED_PROXIES
    if proxies:
        application = ProxyFix(application, x_for=proxies, x_proto=proxies)
    app.wsgi_app = application  # type: ignore[method-assign, assignment]


def register_observers(app: Flask) -> None:
    """Add metrics, error reports and traces where a setting turns them on. Nothing else imports their libraries."""
    if settings_of(app).METRICS_TOKEN:
        from apps.api_v1.metrics import monitoring
        from apps.observability import metrics

        app.register_blueprint(monitoring)
        metrics.init_app(app)
    try:
        if settings_of(app).SENTRY_DSN:
            from apps.observability import sentry

            sentry.init_app(app)
        if any(os.environ.get(name) for name in TRACING):
            from apps.observability import tracing

            tracing.init_app(app)
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            [f"SENTRY_DSN and OTEL_*: need requirements-observe.txt ({error.name} is missing)"]
        ) from None
