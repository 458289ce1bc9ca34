"""The OpenAPI 3.1 document, made at run time from the routes' contracts, their forms and their answers."""

import functools
import re
from collections import defaultdict
from typing import Any

import msgspec
from flask import Flask, current_app
from werkzeug.routing import Rule
from wtforms import BooleanField, Field, Form, FormField, IntegerField
from wtforms.validators import AnyOf, Length, NumberRange

from apps.about import VERSION
from apps.errors import ApiError, NotFound, StaleVersion
from apps.forms.binding import fields_of, is_required
from apps.forms.fields import AgeRange, Format, OpaqueField
from apps.forms.urlencoded import UrlEncodedForm
from apps.http import cookies
from apps.http.contract import Contract, Policy
from apps.http.converters import SessionIdConverter
from apps.utils.ids import MAX_ID

Json = dict[str, Any]

_REF = "#/components/schemas/{name}"
_PATH_PARAMETERS = {
    "user_id": {
        "name": "user_id",
        "in": "path",
        "required": True,
        "description": "The id of a user.",
        "schema": {"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_ID},
    },
    "session_id": {
        "name": "session_id",
        "in": "path",
        "required": True,
        "description": "The id of a session.",
        "schema": {"type": "string", "pattern": f"^{SessionIdConverter.regex}$"},
    },
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "ETags that were read; refused with 412 when none is the current one (RFC 9110, 13.1.1).",
    "schema": {"type": "string"},
}
_CSRF_TOKEN = {
    "name": cookies.CSRF_HEADER,
    "in": "header",
    "description": f"The value of the cookie {cookies.CSRF}; needed when the token comes in a cookie.",
    "schema": {"type": "string"},
}
_ETAG = {"ETag": {"description": "The version of what is answered.", "schema": {"type": "string"}}}
_HEADERS = {
    401: {"WWW-Authenticate": {"description": "The challenge (RFC 6750, 3).", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}},
    503: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}},
}


def contracts(app: Flask) -> list[tuple[Rule, str, Any, Contract | None]]:
    """Return (rule, method, view, contract) of every route; a contract is None where a view declares none."""
    found = []
    for rule in app.url_map.iter_rules():
        function = app.view_functions[rule.endpoint]
        view_class = getattr(function, "view_class", None)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            view = getattr(view_class, method.lower()) if view_class else function
            found.append((rule, method, view, getattr(view, "contract", None)))
    return found


def document() -> Json:
    """Return the document of the current application."""
    answers = {contract.answer for _, _, _, contract in contracts(current_app) if contract and contract.answer}
    _, schemas = msgspec.json.schema_components(sorted(answers, key=lambda answer: answer.__name__), ref_template=_REF)
    for schema in schemas.values():
        schema["additionalProperties"] = False
    _require_tokens(schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Gatehouse",
            "version": VERSION,
            "description": "User accounts, and JWT access and refresh tokens.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": _paths(current_app),
        "components": {
            "schemas": {**schemas, "Error": _error_schema()},
            "securitySchemes": _security_schemes(),
        },
    }


def _security_schemes() -> Json:
    schemes: Json = {"client": {"type": "http", "scheme": "basic", "description": "A client id and its secret."}}
    for kind, name in (("access", cookies.ACCESS), ("refresh", cookies.REFRESH)):
        description = f"The {kind} token."
        schemes[kind] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": description}
        if cookies.is_on():
            schemes[f"{kind}_cookie"] = {"type": "apiKey", "in": "cookie", "name": name, "description": description}
    return schemes


def _require_tokens(schemas: Json) -> None:
    """Promise the tokens that an answer holds unless they travel in cookies."""
    if not cookies.is_on():
        schemas["LoginAnswer"]["required"] += ["access_token", "refresh_token"]
        schemas["RefreshAnswer"]["required"] = ["access_token"]


def _paths(app: Flask) -> Json:
    paths: dict[str, Json] = defaultdict(dict)
    for rule, method, view, contract in contracts(app):
        if contract and contract.answer:
            paths[documented_path(rule)][method.lower()] = _operation(rule, method, view, contract)
    return dict(sorted(paths.items()))


def documented_path(rule: Rule) -> str:
    """Return the path of a rule as OpenAPI writes it: `/users/<id:user_id>` is `/users/{user_id}`."""
    return re.sub(r"<[a-z]+:([a-z_]+)>", r"{\1}", rule.rule)


def _operation(rule: Rule, method: str, view: Any, contract: Contract) -> Json:
    words = [word.split(":")[-1].strip("<>") for word in rule.rule.split("/") if word]
    operation: Json = {
        "operationId": "_".join([method.lower(), *words]).replace(".", "_"),
        "tags": [view.__module__.rpartition(".")[2]],  # the room
        "summary": view.__doc__.partition("\n")[0],
        "description": f"For: {contract.policy.value}",
        "responses": _responses(contract, [*contract.all_errors, *([NotFound] if rule.arguments else [])]),
    }
    schemes = _schemes_of(contract)
    if schemes:
        operation["security"] = [{scheme: []} for scheme in schemes]
    parameters: list[Json] = [_PATH_PARAMETERS[name] for name in sorted(rule.arguments)]
    if contract.query:
        parameters += _query_parameters(contract.query)
    if StaleVersion in contract.errors:
        parameters.append(_IF_MATCH)
    if contract.token and cookies.is_on() and method not in cookies.SAFE_METHODS:
        parameters.append(_CSRF_TOKEN)
    if parameters:
        operation["parameters"] = parameters
    if contract.form:
        media = {"schema": form_schema(contract.form), "example": contract.form.example}
        kind = "application/x-www-form-urlencoded" if issubclass(contract.form, UrlEncodedForm) else "application/json"
        required = not contract.form.may_be_empty
        operation["requestBody"] = {"required": required, "content": {kind: media}}
    return operation


def _schemes_of(contract: Contract) -> list[str]:
    """Return the names of what opens a route, any one of them."""
    if contract.policy is Policy.CLIENT:
        return ["client"]
    if contract.token is None:
        return []
    return [contract.token, *([f"{contract.token}_cookie"] if cookies.is_on() else [])]


def _responses(contract: Contract, refusals: list[type[ApiError]]) -> Json:
    by_status: dict[int, list[type[ApiError]]] = defaultdict(list)
    for error in refusals:
        by_status[error.status].append(error)
    responses: Json = {"200": {"description": "Done.", "content": _media(_success_schema(contract))}}
    if contract.has_etag:
        responses["200"]["headers"] = _ETAG
    for status, errors in sorted(by_status.items()):
        types = [error.type for error in errors]
        schema = {"allOf": [{"$ref": _REF.format(name="Error")}, _error_of(status, types)]}
        responses[str(status)] = {"description": f"Refused: {', '.join(types)}.", "content": _media(schema)}
        if status in _HEADERS:
            responses[str(status)]["headers"] = _HEADERS[status]
    return responses


def _media(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _success_schema(contract: Contract) -> Json:
    assert contract.answer  # noqa: S101 (_paths leaves the others out)
    if not contract.is_enveloped:
        return {"$ref": _REF.format(name=contract.answer.__name__)}
    return _envelope({"data": {"$ref": _REF.format(name=contract.answer.__name__)}, "code": {"const": 200}})


def _envelope(properties: Json) -> Json:
    members = {"code": {"type": "integer"}, "message": {"type": "string"}, "state": {"const": 0}, **properties}
    return {"type": "object", "properties": members, "required": sorted(members), "additionalProperties": False}


def _error_schema() -> Json:
    error = {
        "type": "object",
        "properties": {"type": {"type": "string"}, "fields": {"type": "object"}},
        "required": ["type"],
        "additionalProperties": False,
    }
    return _envelope({"data": {"type": "object", "maxProperties": 0}, "error": error})


def _error_of(status: int, types: list[str]) -> Json:
    return {"properties": {"code": {"const": status}, "error": {"properties": {"type": {"enum": types}}}}}


def form_schema(form: type[Form]) -> Json:
    """Return the JSON Schema (2020-12) of the bodies that a form accepts."""
    fields = fields_of(form)
    return {
        "type": "object",
        "properties": {name: _field_schema(name, field) for name, field in fields.items()},
        "required": [name for name, field in fields.items() if is_required(field)],
        "additionalProperties": False,
    }


def _query_parameters(query: type[Form]) -> list[Json]:
    properties: Json = form_schema(query)["properties"]
    parameters = []
    for name, schema in properties.items():
        kind = next(kind for kind in schema["type"] if kind != "null")  # a query string knows no null
        parameters.append({"name": name, "in": "query", "schema": {**schema, "type": kind}})
    return parameters


def _field_schema(name: str, field: Any) -> Json:
    nullable = [] if is_required(field) else ["null"]
    if field.field_class is FormField:
        return {**form_schema(field.args[0]), "type": ["object", *nullable] if nullable else "object"}
    kind = _kind(field.field_class)
    schema: Json = {"type": [kind, *nullable] if nullable else kind}
    if kind == "string" and not issubclass(field.field_class, OpaqueField):
        schema["pattern"] = "^[^\\u0000]*$"
    if name.endswith("password"):
        schema |= {"writeOnly": True}
    for validator in field.kwargs["validators"]:
        schema |= _constraints(validator)
    return schema


def _kind(field_class: type[Field]) -> str:
    if issubclass(field_class, IntegerField):
        return "integer"
    return "boolean" if issubclass(field_class, BooleanField) else "string"


@functools.singledispatch
def _constraints(_validator: Any) -> Json:
    """Return what a validator says in the words of JSON Schema."""
    return {}


@_constraints.register
def _(validator: Length) -> Json:
    most = {"maxLength": validator.max} if validator.max >= 0 else {}
    return {"minLength": max(validator.min, 1), **most}


@_constraints.register
def _(validator: AnyOf) -> Json:
    return {"enum": [*validator.values]}


@_constraints.register(NumberRange)
@_constraints.register
def _(validator: AgeRange) -> Json:
    return {"minimum": validator.min, "maximum": validator.max}


@_constraints.register
def _(validator: Format) -> Json:
    return {"format": validator.name, "pattern": validator.pattern}
