"""Error reports to Sentry: the type of the error and its place in the code, without data.

Each log line of level ERROR becomes a report. An allow-list selects its fields: no request, header, cookie, body, user
or local variable, and no text of an exception, which may quote any of them. The log has that text; the report has the
request id of the log line.
"""

import logging
from typing import Any

import sentry_sdk
from flask import Flask, has_request_context, request
from sentry_sdk.integrations.logging import EventHandler
from sentry_sdk.utils import BadDsn

from apps.about import VERSION
from apps.config import settings
from apps.observability.request_context import current_context
from apps.settings.reader import InvalidSettings

_EVENT_FIELDS = ("event_id", "timestamp", "level", "logger", "platform", "release", "environment", "server_name")
_EXCEPTION_FIELDS = ("type", "module")
_FRAME_FIELDS = ("filename", "module", "function", "lineno", "in_app")


def init_app(app: Flask) -> None:
    """Report the errors of `app`. Call it after the log is configured. Raises `InvalidSettings`."""
    try:
        sentry_sdk.init(
            settings(app).SENTRY_DSN,
            release=VERSION,
            before_send=allowed_fields,  # type: ignore[arg-type]
            # These options add data that `allowed_fields` removes again, and slow every request down.
            default_integrations=False,
            auto_session_tracking=False,
            send_client_reports=False,
            max_breadcrumbs=0,
            max_request_body_size="never",
            include_local_variables=False,
            include_source_context=False,
        )
    except BadDsn:
        raise InvalidSettings(["SENTRY_DSN: must look like https://key@host/1"]) from None
    logging.getLogger("apps").addHandler(EventHandler(logging.ERROR))


def allowed_fields(event: dict[str, Any], _hint: Any) -> dict[str, Any]:
    """Return `event` with only the fields that never contain data."""
    exceptions = event.get("exception", {}).get("values", [])
    rule = request.url_rule if has_request_context() else None
    return _pick(event, _EVENT_FIELDS) | {
        "logentry": {"message": event.get("logentry", {}).get("message")},  # without its arguments
        "exception": {"values": [_without_data(exception) for exception in exceptions]},
        "tags": {"request_id": current_context().request_id, "route": rule.rule if rule else None},
    }


def _without_data(exception: dict[str, Any]) -> dict[str, Any]:
    frames = (exception.get("stacktrace") or {}).get("frames", [])
    return _pick(exception, _EXCEPTION_FIELDS) | {
        "stacktrace": {"frames": [_pick(frame, _FRAME_FIELDS) for frame in frames]}
    }


def _pick(mapping: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: mapping[name] for name in names if name in mapping}
