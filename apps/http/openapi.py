"""The OpenAPI 3.1 document, generated at run time from the contracts, forms and answers of the routes."""

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
from apps.forms.fields import AgeRange, Format, JsonForm, OpaqueField
from apps.forms.urlencoded import UrlEncodedForm
from apps.http import cookies
from apps.http.contract import Contract, Policy
from apps.http.converters import DocumentedConverter

Json = dict[str, Any]

_REF = "#/components/schemas/{name}"
_PATH_PARAMETER = re.compile(r"<(?:(\w+):)?(\w+)>")  # "<id:user_id>"; the converter may be absent
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "ETags that were read; refused with 412 when none is the current one (RFC 9110, 13.1.1).",
    "schema": {"type": "string"},
}
_CSRF_TOKEN = {
    "name": cookies.CSRF_HEADER,
    "in": "header",
    "description": f"The value of the cookie {cookies.CSRF} or of the last answer's header of this name; needed when "
    "the token comes in a cookie.",
    "schema": {"type": "string"},
}
_SENT_CSRF = {cookies.CSRF_HEADER: {"description": "The CSRF token of the session.", "schema": {"type": "string"}}}
_ETAG = {"ETag": {"description": "The version of what is answered.", "schema": {"type": "string"}}}
_HEADERS = {
    401: {"WWW-Authenticate": {"description": "The challenge (RFC 6750, 3).", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}},
    503: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}},
}


def contracts(app: Flask) -> list[tuple[Rule, str, Any, Contract | None]]:
    """Return (rule, method, view, contract) of every route. The contract is None if the view declares none."""
    found = []
    for rule in app.url_map.iter_rules():
        function = app.view_functions[rule.endpoint]
        view_class = getattr(function, "view_class", None)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            view = getattr(view_class, method.lower()) if view_class else function
            found.append((rule, method, view, getattr(view, "contract", None)))
    return found


def document() -> Json:
    """Return the OpenAPI document of the current application."""
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
    """Mark the tokens of an answer as required, unless they travel in cookies."""
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
    """Return the path of a rule in OpenAPI's syntax: `/users/<id:user_id>` becomes `/users/{user_id}`."""
    return _PATH_PARAMETER.sub(r"{\2}", rule.rule)


def _operation(rule: Rule, method: str, view: Any, contract: Contract) -> Json:
    operation = {
        "operationId": _operation_id(rule, method),
        "tags": [view.__module__.rpartition(".")[2]],  # the feature
        "summary": view.__doc__.partition("\n")[0],
        "description": f"For: {contract.policy.value}" + (f" Scope: `{contract.scope}`." if contract.scope else ""),
        "responses": _responses(contract, [*contract.all_errors, *([NotFound] if rule.arguments else [])]),
    }
    optional: Json = {
        "security": [{scheme: []} for scheme in _schemes_of(contract)],
        "parameters": [*_path_parameters(rule), *_other_parameters(method, contract)],
        "requestBody": _request_body(contract.form) if contract.form else None,
    }
    return operation | {name: value for name, value in optional.items() if value}


def _operation_id(rule: Rule, method: str) -> str:
    """Return a unique name of a route: `get_api_v1_users_user_id`."""
    words = [word.split(":")[-1].strip("<>") for word in rule.rule.split("/") if word]
    return "_".join([method.lower(), *words]).replace(".", "_")


def _schemes_of(contract: Contract) -> list[str]:
    """Return the names of the security schemes, any one of which opens the route."""
    if contract.policy is Policy.CLIENT:
        return ["client"]
    if contract.token is None:
        return []
    return [contract.token, *([f"{contract.token}_cookie"] if cookies.is_on() else [])]


def _path_parameters(rule: Rule) -> list[Json]:
    """Return the parameters of a path, by name, as their converters describe them."""
    parameters = []
    for converter_name, name in _PATH_PARAMETER.findall(rule.rule):
        converter = rule.map.converters[converter_name or "default"]
        if not issubclass(converter, DocumentedConverter):
            raise TypeError(f"{rule.rule}: {name} needs a DocumentedConverter (apps/http/converters.py)")
        description = converter.description.format(thing=_with_article(name.removesuffix("_id").replace("_", " ")))
        parameters.append(
            {"name": name, "in": "path", "required": True, "description": description, "schema": converter.schema}
        )
    return sorted(parameters, key=lambda parameter: parameter["name"])


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeio" else f"a {noun}"  # "a user"


def _other_parameters(method: str, contract: Contract) -> list[Json]:
    """Return the parameters of the query string and the headers."""
    needs_csrf_token = contract.token and cookies.is_on() and method not in cookies.SAFE_METHODS
    return [
        *(_query_parameters(contract.query) if contract.query else []),
        *([_IF_MATCH] if StaleVersion in contract.errors else []),
        *([_CSRF_TOKEN] if needs_csrf_token else []),
    ]


def _request_body(form: type[JsonForm]) -> Json:
    media = {"schema": form_schema(form), "example": form.example}
    kind = "application/x-www-form-urlencoded" if issubclass(form, UrlEncodedForm) else "application/json"
    return {"required": not form.may_be_empty, "content": {kind: media}}


def _responses(contract: Contract, errors: list[type[ApiError]]) -> Json:
    by_status: dict[int, list[type[ApiError]]] = defaultdict(list)
    for error in errors:
        by_status[error.status].append(error)
    responses: Json = {"200": {"description": "Done.", "content": _media(_success_schema(contract))}}
    headers = _ETAG if contract.has_etag else {}
    if contract.sends_csrf_token and cookies.is_on():
        headers = headers | _SENT_CSRF
    if headers:
        responses["200"]["headers"] = headers
    for status, group in sorted(by_status.items()):
        types = [error.type for error in group]
        schema = {"allOf": [{"$ref": _REF.format(name="Error")}, _error_of(status, types)]}
        responses[str(status)] = {"description": f"Refused: {', '.join(types)}.", "content": _media(schema)}
        if status in _HEADERS:
            responses[str(status)]["headers"] = _HEADERS[status]
    return responses


def _media(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _success_schema(contract: Contract) -> Json:
    assert contract.answer  # noqa: S101 (_paths skips routes without one)
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
    """Return the JSON Schema (2020-12) of a form's body."""
    fields = fields_of(form)
    return {
        "type": "object",
        "properties": {name: _field_schema(name, field) for name, field in fields.items()},
        "required": [name for name, field in fields.items() if is_required(field)],
        "additionalProperties": issubclass(form, UrlEncodedForm),  # which ignores unknown parameters
    }


def _query_parameters(query: type[Form]) -> list[Json]:
    properties: Json = form_schema(query)["properties"]
    parameters = []
    for name, schema in properties.items():
        kind = next(kind for kind in schema["type"] if kind != "null")  # a query string has no null
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
    """Return the JSON Schema keywords for the rule of a validator."""
    return {}


@_constraints.register
def _(validator: Length) -> Json:
    upper = {"maxLength": validator.max} if validator.max >= 0 else {}
    return {"minLength": max(validator.min, 1), **upper}


@_constraints.register
def _(validator: AnyOf) -> Json:
    return {"enum": [*validator.values]}


@_constraints.register(NumberRange)
@_constraints.register
def _(validator: AgeRange) -> Json:
    return {"minimum": validator.min, "maximum": validator.max}


@_constraints.register
def _(validator: Format) -> Json:
    return {"format": validator.name, "pattern": validator.pattern, **validator.document}
