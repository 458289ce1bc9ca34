"""Logs: a JSON line for each request and event, with the request id; on stdout, or on stderr for commands.

A line never contains a body, a header, a query string or a token. In the texts of other programs, such as an error of a
database driver, secrets of the settings are replaced. Line breaks are escaped, so a client cannot forge a line.
"""

import json
import logging
import logging.config
import random
import re
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import msgspec

from apps.config import BaseConfig
from apps.observability.request_context import RequestContext, bind, current_context, reset
from apps.settings.urls import redact, secrets_of

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_DETAIL = re.compile(r"^DETAIL: .*?$(?=\n(?:HINT:|CONTEXT:|\[SQL|\n)|\Z)", re.MULTILINE | re.DOTALL)
_NOT_EXTRA = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_OF_OTHERS = frozenset({"cause", "exc_info"})  # fields with texts of drivers and libraries
_encoder = msgspec.json.Encoder(enc_hook=str)


class Formatter(logging.Formatter):
    """Format a record as one line of ASCII JSON: the fields of the record, the request id and the `extra`."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets = list(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": current_context().request_id,
        }
        line |= {name: value for name, value in record.__dict__.items() if name not in _NOT_EXTRA}
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        for name in _OF_OTHERS & set(line):
            line[name] = redact(str(line[name]), self._secrets)
        return _to_json(line)

    def formatException(self, ei: Any) -> str:  # noqa: N802 (overrides `logging.Formatter`)
        """Return the traceback without PostgreSQL's DETAIL: it quotes row values, such as password hashes."""
        return _DETAIL.sub("", super().formatException(ei))


def configure(settings: BaseConfig, stream: str = "stdout") -> None:
    """Log to "stdout" or "stderr": audit events always, other records of the service from LOG_LEVEL on.

    On a terminal, "stderr" gets warnings and errors only: there the lines would stand between the answers of a command.
    """
    is_terminal = stream == "stderr" and sys.stderr.isatty()
    formatter = {"()": Formatter, "secrets": secrets_of(settings)}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": formatter},
            "handlers": {
                "lines": {
                    "class": "logging.StreamHandler",
                    "stream": f"ext://sys.{stream}",
                    "formatter": "json",
                    "level": "WARNING" if is_terminal else "NOTSET",
                }
            },
            "loggers": {
                "apps": {"handlers": ["lines"], "level": settings.LOG_LEVEL, "propagate": False},
                "apps.services.audit": {"level": "INFO"},  # at every LOG_LEVEL
            },
        }
    )


def with_log(application: WSGIApplication) -> WSGIApplication:
    """Return `application` with a log line for each request, and with the request id in X-Request-ID."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        started = time.perf_counter()
        given = environ.get("HTTP_X_REQUEST_ID", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(64):016x}"

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            if logger.isEnabledFor(logging.INFO):
                _write(_describe(environ, status, time.perf_counter() - started))
            headers.append(("X-Request-ID", request_id))
            return start_response(status, headers, exc_info)

        token = bind(RequestContext(None, None, environ.get("REMOTE_ADDR", "unknown")[:64], request_id))
        try:
            return application(environ, start)
        finally:
            reset(token)

    return serve


def _write(line: dict[str, object]) -> None:
    """Log a request like `logger.info`, but without its search of the stack for the caller."""
    logger.handle(logger.makeRecord(logger.name, logging.INFO, __file__, 0, "request", (), None, extra=line))


def _describe(environ: WSGIEnvironment, status: str, seconds: float) -> dict[str, object]:
    rule = environ["werkzeug.request"].url_rule  # Flask removes the request after the answer
    return {
        "event": "request",
        "method": environ["REQUEST_METHOD"],
        "route": rule.rule if rule else None,  # not the path, which is client-supplied text
        "status": int(status[:3]),
        "milliseconds": round(seconds * 1000, 1),
        "address": environ.get("REMOTE_ADDR"),
        "user_id": current_context().user_id,
    }


def _to_json(line: dict[str, Any]) -> str:
    try:
        encoded = _encoder.encode(line)
    except UnicodeEncodeError:  # a lone surrogate
        encoded = b"\xff"
    return encoded.decode() if encoded.isascii() else json.dumps(line, default=str)
