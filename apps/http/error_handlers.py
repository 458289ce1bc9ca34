"""The handlers that answer every error in the envelope."""

import logging

from flask import Flask, Response
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException

from apps.database import revision
from apps.errors import ApiError, BodyTooLarge, DatabaseOutdated, DatabaseUnavailable, NotFound
from apps.services.health import find_revision
from apps.utils.response import HttpResponse

logger = logging.getLogger(__name__)


def register_errors(app: Flask) -> None:
    """Register the handlers: errors of this API, of Flask, of the database, and unexpected ones."""
    app.register_error_handler(ApiError, _answer)
    app.register_error_handler(HTTPException, _answer_http)
    # PostgreSQL, for one, raises InternalError while it accepts no writes.
    for error in (OperationalError, InterfaceError, InternalError, PoolTimeoutError):
        app.register_error_handler(error, _answer_database)
    app.register_error_handler(ProgrammingError, _answer_statement)
    app.register_error_handler(Exception, _answer_unexpected)


def _answer(error: ApiError) -> Response:
    if error.__cause__ is not None:
        cause = type(error.__cause__).__name__  # the class only: the text may contain values of the row
        logger.info("request refused", extra={"event": "refused", "error_type": error.type, "cause": cause})
    return HttpResponse.error(error.status, error.type, error.message, error.fields, error.headers)


# Errors that Werkzeug raises on documented routes: they get the documented type and message.
_DOCUMENTED: dict[int, type[ApiError]] = {error.status: error for error in (NotFound, BodyTooLarge)}


def _answer_http(error: HTTPException) -> Response:
    """Answer the errors of Flask and Werkzeug: unknown paths, other methods, bodies that are too large."""
    status = error.code or 500
    if status in _DOCUMENTED:
        return _answer(_DOCUMENTED[status]())
    headers = dict(error.get_headers())
    headers.pop("Content-Type", None)
    return HttpResponse.error(
        status, error.name.lower().replace(" ", "_"), error.description or error.name, headers=headers
    )


def _answer_database(error: DBAPIError | PoolTimeoutError) -> Response:
    if isinstance(error, DBAPIError) and revision.is_missing_schema(error):
        return _answer_outdated(error)
    logger.error("database unavailable", extra={"event": "database.unavailable", "cause": str(error)})
    return _answer(DatabaseUnavailable())


def _answer_statement(error: ProgrammingError) -> Response:
    return _answer_outdated(error) if revision.is_missing_schema(error) else _answer_unexpected(error)


def _answer_outdated(error: DBAPIError) -> Response:
    """Answer a request that needs a table or column of a later migration."""
    found = {"revision": find_revision(), "needed": revision.needed_revision()}
    extra = {"event": "database.outdated", "cause": str(error)} | found
    logger.error("database not migrated: run `manage.py db upgrade`", extra=extra)
    return _answer(DatabaseOutdated())


def _answer_unexpected(error: Exception) -> Response:
    logger.error("unexpected error", exc_info=error, extra={"event": "error"})
    return _answer(ApiError())
