"""The refusals of the OpenAPI document: one flat object for each status, shared by the routes that answer the same."""

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
class Refusal:
    """The errors of one status that a route may answer."""

    status: int
    types: tuple[str, ...]  # of `error.type`
    form: type[JsonForm] | None  # whose fields `error.fields` names

    @property
    def name(self) -> str:
        """The name of its components: `SignUpInvalidBodyOrWeakPassword`. A type belongs to one status."""
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
        """The envelope, for `components.schemas`. `fields` is optional in all, so that clients read all alike."""
        error = {
            "type": "object",
            "properties": {"type": {"type": "string", "enum": [*self.types]}, "fields": fields_reference(self.form)},
            "required": ["type"],
            "additionalProperties": False,
        }
        return envelope(self.status, data={"$ref": REF.format(name="Nothing")}, error=error)


def refusals_of(rule: Rule, contract: Contract) -> list[Refusal]:
    """Return the refusals of a route, sorted by status."""
    by_status: dict[int, list[type[ApiError]]] = defaultdict(list)
    not_found: list[type[ApiError]] = [NotFound] if rule.arguments else []
    for error in [*contract.all_errors, *not_found]:
        by_status[error.status].append(error)
    return [_refusal(status, by_status[status], contract) for status in sorted(by_status)]


def _refusal(status: int, errors: list[type[ApiError]], contract: Contract) -> Refusal:
    names_fields = any(error.names_fields for error in errors)
    types = tuple(sorted(error.type for error in errors))
    return Refusal(status, types, (contract.form or contract.query) if names_fields else None)


def envelope(code: int, **properties: Json) -> Json:
    """Return the schema of an envelope with the members `properties` beside those of every envelope."""
    members = {"code": {"const": code}, "message": {"type": "string"}, "state": {"const": 0}, **properties}
    return {"type": "object", "properties": members, "required": sorted(members), "additionalProperties": False}
