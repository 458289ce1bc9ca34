"""The envelope of every JSON response. No other module builds one."""

from collections.abc import Mapping
from typing import Any

import msgspec
from flask import Response, request

ERROR_TYPE = "gatehouse.error_type"  # key of the response's `error.type` in the WSGI environment

# Sorted keys: equal responses are equal bytes.
_encoder = msgspec.json.Encoder(order="sorted")


class HttpResponse:
    """Builds `{"code", "data", "message", "state"}`: `code` is the HTTP status, `state` is 0 as in the tutorial."""

    @staticmethod
    def success(data: Any = None, message: str = "SUCCESS", status: int = 200) -> Response:
        """Return a response with `data`: a `msgspec.Struct`, a dict of JSON values, or None for `{}`."""
        return _respond({"code": status, "data": {} if data is None else data, "message": message, "state": 0})

    @staticmethod
    def bare(data: msgspec.Struct) -> Response:
        """Return a response without the envelope, for routes whose body a standard defines."""
        return Response(_encoder.encode(data), mimetype="application/json")

    @staticmethod
    def error(
        status: int,
        type_: str,
        message: str,
        fields: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Return an error with the stable word `type_` (`error.type`) and, for a form, the errors of its fields."""
        request.environ[ERROR_TYPE] = type_  # for metrics, traces and logs
        error: dict[str, Any] = {"type": type_} if fields is None else {"type": type_, "fields": fields}
        response = _respond({"code": status, "data": {}, "message": message, "state": 0, "error": error})
        response.headers.update(headers or {})
        return response


def _respond(envelope: dict[str, Any]) -> Response:
    return Response(_encoder.encode(envelope), status=envelope["code"], mimetype="application/json")
