"""Gatehouse: user accounts and JWT access and refresh tokens, as a Flask REST API."""

import re
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from apps import extensions, models  # noqa: F401 (the tables are declared before anything reads them)
from apps.api_v1 import api_v1
from apps.api_v1.health import health
from apps.api_v1.key import well_known
from apps.commands import register_commands
from apps.config import load_settings
from apps.errors import register_errors
from apps.services import key
from apps.utils import converters, database, headers, logs, password_hash, patience

__version__ = "0.1.0"

ROOT = Path(__file__).parent.parent


def create_app(config_name: str | None = None, **settings: Any) -> Flask:
    """Return the application.

    `config_name` is "development", "production" or "testing"; without it `GATEHOUSE_PROFILE` decides, else
    "development". `settings` win over every other source of settings. Raises `InvalidSettings`, which names all that
    is wrong.
    """
    app = Flask("apps", instance_path=str(ROOT / "instance"), static_folder=None)
    load_settings(app, config_name, settings)
    register_extensions(app)
    register_blueprints(app)
    register_errors(app)
    register_hooks(app)
    register_commands(app)
    return app


def register_extensions(app: Flask) -> None:
    """Bind the extensions."""
    extensions.db.init_app(app)
    extensions.migrate.init_app(app, extensions.db, str(ROOT / "migrations"))
    extensions.cache.init_app(app)
    extensions.jwt.init_app(app)
    extensions.limiter.init_app(app)
    if app.config["CORS_ORIGINS"]:  # else nothing of another origin is answered, and no request pays for the question
        # As exact patterns: Flask-CORS takes a text with any of `*[]?` for a pattern, and ignores the case of others.
        exact = [re.compile(re.escape(origin) + r"\Z") for origin in app.config["CORS_ORIGINS"]]
        with_cookies = "cookies" in app.config["JWT_TOKEN_LOCATION"]
        extensions.cors.init_app(app, origins=exact, supports_credentials=with_cookies, expose_headers=headers.EXPOSED)
    password_hash.init_app(app)
    key.init_app(app)
    with app.app_context():
        database.prepare_sqlite(extensions.db.engine)
        # A second more than the server has, whose refusal is the better one.
        patience.limit_waiting(extensions.db.engine, app.config["STATEMENT_TIMEOUT"].total_seconds() + 1)


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
    proxies = app.config["TRUSTED_PROXIES"]
    if proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies)  # type: ignore[method-assign]
    headers.init_app(app)
    logs.init_app(app)
