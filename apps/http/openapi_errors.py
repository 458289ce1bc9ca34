"""The error responses of the OpenAPI document: one flat schema per status, shared by routes with the same errors."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from werkzeug.routing import Rule

from apps.errors import ApiError, NotFound
from apps.forms.fields import JsonForm
from apps.http.contract import Contract
from apps.http.openapi_forms import REF, fields_reference, name_of

Json = dict[str, Any]

_SECONDS = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
_HEADERS: dict[int, Json] = {
    401: {"WWW-Authenticate": {"description": "The challenge (RFC 6750, 3).", "schema": {"type": "string"}}},
    429: _SECONDS,
    503: _SECONDS,
}
NOTHING = {"Nothing": {"type": "object", "additionalProperties": False, "description": "The `data` of a refusal."}}


@dataclass(frozen=True)
class ErrorResponse:
    """The errors of one status that a route may answer with."""

    status: int
    types: tuple[str, ...]  # of `error.type`
    form: type[JsonForm] | None  # its fields are the keys of `error.fields`

    @property
    def name(self) -> str:
        """The name of the components, such as `SignUpInvalidBodyOrWeakPassword`. An error type has only one status."""
        types = "Or".join(kind.title().replace("_", "") for kind in self.types)
        return f"{name_of(self.form) if self.form else ''}{types}"

    @property
    def reference(self) -> Json:
        """A reference to the response."""
        return {"$ref": f"#/components/responses/{self.name}"}

    @property
    def response(self) -> Json:
        """The response, for `components.responses`."""
        headers = {"headers": _HEADERS[self.status]} if self.status in _HEADERS else {}
        content = {"application/json": {"schema": {"$ref": REF.format(name=self.name)}}}
        return {"description": f"Refused: {', '.join(self.types)}.", **headers, "content": content}

    @property
    def schema(self) -> Json:
        """The envelope, for `components.schemas`. Every error has the optional `fields`, so clients read all alike."""
        error = {
            "type": "object",
            "properties": {"type": {"type": "string", "enum": [*self.types]}, "fields": fields_reference(self.form)},
            "required": ["type"],
            "additionalProperties": False,
        }
        return envelope(self.status, data={"$ref": REF.format(name="Nothing")}, error=error)


def error_responses(rule: Rule, contract: Contract) -> list[ErrorResponse]:
    """Return the error responses of a route, sorted by status."""
    by_status: dict[int, list[type[ApiError]]] = defaultdict(list)
    not_found: list[type[ApiError]] = [NotFound] if rule.arguments else []
    for error in [*contract.all_errors, *not_found]:
        by_status[error.status].append(error)
    return [_error_response(status, by_status[status], contract) for status in sorted(by_status)]


def _error_response(status: int, errors: list[type[ApiError]], contract: Contract) -> ErrorResponse:
    names_fields = any(error.names_fields for error in errors)
    types = tuple(sorted(error.type for error in errors))
    return ErrorResponse(status, types, (contract.form or contract.query) if names_fields else None)


def envelope(code: int, **properties: Json) -> Json:
    """Return the schema of an envelope with the given members (`data`, `error`) and those that all envelopes have."""
    members = {"code": {"const": code}, "message": {"type": "string"}, "state": {"const": 0}, **properties}
    return {"type": "object", "properties": members, "required": sorted(members), "additionalProperties": False}
