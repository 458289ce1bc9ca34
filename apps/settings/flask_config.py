"""The configuration of Flask and its extensions, derived from the settings."""

from flask import Flask

from apps.config import BaseConfig
from apps.database import engine
from apps.security import jwk
from apps.settings import embedded


def configure_libraries(app: Flask, settings: BaseConfig) -> None:
    """Set the keys of `app.config` that Flask, Flask-SQLAlchemy and Flask-JWT-Extended read."""
    url, options = engine.engine_settings(
        settings.DATABASE_URL or embedded.database_url(app),
        settings.DATABASE_POOL_SIZE,
        settings.DATABASE_TIMEOUT,
        settings.STATEMENT_TIMEOUT,
    )
    app.config.update(
        SQLALCHEMY_DATABASE_URI=url,
        SQLALCHEMY_ENGINE_OPTIONS=options,
        MAX_CONTENT_LENGTH=64 * 1024,
        JWT_SECRET_KEY=settings.JWT_SECRET_KEY,
        JWT_ALGORITHM=settings.JWT_ALGORITHM,
        JWT_TOKEN_LOCATION=list(settings.JWT_TOKEN_LOCATION),
        JWT_ACCESS_TOKEN_EXPIRES=settings.JWT_ACCESS_TOKEN_EXPIRES,
        JWT_REFRESH_TOKEN_EXPIRES=settings.JWT_REFRESH_TOKEN_EXPIRES,
        # Both asymmetric algorithms, so that older keys still verify after a change; each key names its algorithm.
        JWT_DECODE_ALGORITHMS=["HS256"] if settings.JWT_ALGORITHM == "HS256" else list(jwk.ALGORITHMS),
        JWT_DECODE_ISSUER=settings.JWT_ISSUER,
        JWT_DECODE_AUDIENCE=settings.JWT_AUDIENCE,
        JWT_DECODE_LEEWAY=settings.JWT_LEEWAY,
        JWT_COOKIE_CSRF_PROTECT=False,  # http/cookies.py checks a CSRF token that needs no claim
    )
