"""The envelope of every JSON answer, made here and nowhere else."""

from collections.abc import Mapping
from typing import Any

import msgspec
from flask import Response, request

ERROR_TYPE = "gatehouse.error_type"  # key in the WSGI environment of the `error.type` that was answered

# Canonical order, so that equal answers are equal bytes.
_encoder = msgspec.json.Encoder(order="sorted")


class HttpResponse:
    """Builds `{"code", "data", "message", "state"}`: `code` equals the HTTP status, `state` is 0 as in the tutorial."""

    @staticmethod
    def success(data: Any = None, message: str = "SUCCESS", status: int = 200) -> Response:
        """Answer with `data`: a `msgspec.Struct`, or a dict of JSON values; None is `{}`."""
        return _respond({"code": status, "data": {} if data is None else data, "message": message, "state": 0})

    @staticmethod
    def bare(data: msgspec.Struct) -> Response:
        """Answer without the envelope, where a standard says what the body is."""
        return Response(_encoder.encode(data), mimetype="application/json")

    @staticmethod
    def error(
        status: int,
        type_: str,
        message: str,
        fields: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Refuse with a stable machine-readable word (`error.type`) and, for a form, the faults of its fields."""
        request.environ[ERROR_TYPE] = type_  # for what watches the service
        error: dict[str, Any] = {"type": type_} if fields is None else {"type": type_, "fields": fields}
        response = _respond({"code": status, "data": {}, "message": message, "state": 0, "error": error})
        response.headers.update(headers or {})
        return response


def _respond(envelope: dict[str, Any]) -> Response:
    return Response(_encoder.encode(envelope), status=envelope["code"], mimetype="application/json")
