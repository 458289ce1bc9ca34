"""Logs: JSON lines on stdout, one a request, each with its request id and no secret.

A line never holds a body, a header, a query string or a token. json.dumps escapes line breaks, so nobody forges a line.
"""

import logging
import logging.config
import re
import secrets
import time
from typing import Any

from flask import Flask, Response, g, has_request_context, request
from pythonjsonlogger.json import JsonFormatter

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_DETAIL = re.compile(r"^DETAIL: .*?$(?=\n(?:HINT:|CONTEXT:|\[SQL|\n)|\Z)", re.MULTILINE | re.DOTALL)


class Formatter(JsonFormatter):
    """Leaves out what PostgreSQL adds to an error: the values of the row, a password's hash among them."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 (the name that `logging` calls)
        """Return the traceback without them."""
        return _DETAIL.sub("", str(super().formatException(ei)))


class RequestIdFilter(logging.Filter):
    """Gives every line that is written during a request the request's id."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the id; let the line pass."""
        record.request_id = g.get("request_id") if has_request_context() else None
        return True


def init_app(app: Flask) -> None:
    """Log every request of `app`, and answer with its id in X-Request-ID."""
    _configure(app.config["LOG_LEVEL"])

    @app.before_request
    def begin() -> None:
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        g.started = time.perf_counter()

    @app.after_request
    def log(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        logger.info("request", extra=_describe(response))
        return response


def _describe(response: Response) -> dict[str, object]:
    rule = request.url_rule
    return {
        "event": "request",
        "method": request.method,
        "route": rule.rule if rule else None,  # the rule, not the path: paths are the client's text
        "status": response.status_code,
        "milliseconds": round((time.perf_counter() - g.started) * 1000, 1),
        "address": request.remote_addr,
        "user_id": g.get("user_id"),
    }


def _configure(level: str) -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"request_id": {"()": RequestIdFilter}},
            "formatters": {
                "json": {
                    "()": Formatter,
                    "format": "{levelname}{name}{message}{request_id}",
                    "style": "{",
                    "rename_fields": {"levelname": "level", "name": "logger"},
                    "timestamp": "time",
                }
            },
            "handlers": {
                "stdout": {
                    "class": "logging.StreamHandler",
                    "stream": "ext://sys.stdout",
                    "formatter": "json",
                    "filters": ["request_id"],
                }
            },
            "loggers": {
                "apps": {"handlers": ["stdout"], "level": level, "propagate": False},
                "apps.services.audit": {"level": "INFO"},  # never silenced
            },
        }
    )
