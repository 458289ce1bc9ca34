"""The settings of the libraries, made from ours."""

from flask import Flask

from apps.database import engine
from apps.security import jwk
from apps.settings import embedded


def configure_libraries(app: Flask) -> None:
    """Say to the libraries, in their words, what the settings mean."""
    settings = app.config
    url, options = engine.engine_settings(
        settings["DATABASE_URL"] or embedded.database_url(app),
        settings["DATABASE_POOL_SIZE"],
        settings["DATABASE_TIMEOUT"],
        settings["STATEMENT_TIMEOUT"],
    )
    settings.update(
        SQLALCHEMY_DATABASE_URI=url,
        SQLALCHEMY_ENGINE_OPTIONS=options,
        MAX_CONTENT_LENGTH=64 * 1024,
        # Both where keys sign, so that those of the one before verify on; which one, its key says (services/token.py).
        JWT_DECODE_ALGORITHMS=["HS256"] if settings["JWT_ALGORITHM"] == "HS256" else list(jwk.ALGORITHMS),
        JWT_DECODE_ISSUER=settings["JWT_ISSUER"],
        JWT_DECODE_AUDIENCE=settings["JWT_AUDIENCE"],
        JWT_DECODE_LEEWAY=settings["JWT_LEEWAY"],
        JWT_COOKIE_CSRF_PROTECT=False,  # cookies.py asks for its own proof, without a claim in every token
    )
