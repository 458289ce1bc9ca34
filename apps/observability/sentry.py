"""Reports of errors to Sentry: what broke, and where in the code; never the data that it broke on.

A report is made of each log line of level ERROR. Only what is named here leaves: no request, no header, no cookie, no
body, no user, no local variable, and no text of an exception, which may quote any of them. The log has that text, and
the report has the log line's request id.
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

_OF_EVENT = ("event_id", "timestamp", "level", "logger", "platform", "release", "environment", "server_name")
_OF_EXCEPTION = ("type", "module")
_OF_FRAME = ("filename", "module", "function", "lineno", "in_app")


def init_app(app: Flask) -> None:
    """Report the errors of `app`; to be called when its log is in place."""
    try:
        sentry_sdk.init(
            settings(app).SENTRY_DSN,
            release=VERSION,
            before_send=only_what_is_named,  # type: ignore[arg-type]
            # They would add what is then taken away, and slow every request down.
            default_integrations=False,
            auto_session_tracking=False,
            send_client_reports=False,
            max_breadcrumbs=0,
            max_request_body_size="never",
            include_local_variables=False,
            include_source_context=False,
        )
    except BadDsn:
        raise InvalidSettings(["SENTRY_DSN: must read like https://key@host/1"]) from None
    logging.getLogger("apps").addHandler(EventHandler(logging.ERROR))


def only_what_is_named(event: dict[str, Any], _hint: Any) -> dict[str, Any]:
    """Return a report with nothing in it but what is known to hold no data."""
    exceptions = event.get("exception", {}).get("values", [])
    rule = request.url_rule if has_request_context() else None
    return _pick(event, _OF_EVENT) | {
        "logentry": {"message": event.get("logentry", {}).get("message")},  # ours, without what is put into it
        "exception": {"values": [_only_where(exception) for exception in exceptions]},
        "tags": {"request_id": current_context().request_id, "route": rule.rule if rule else None},
    }


def _only_where(exception: dict[str, Any]) -> dict[str, Any]:
    frames = (exception.get("stacktrace") or {}).get("frames", [])
    return _pick(exception, _OF_EXCEPTION) | {"stacktrace": {"frames": [_pick(frame, _OF_FRAME) for frame in frames]}}


def _pick(mapping: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: mapping[name] for name in names if name in mapping}
