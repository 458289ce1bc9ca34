"""The OpenAPI 3.1 document, generated at run time from the contracts, forms and answers of the routes."""

import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec
from flask import Flask, current_app
from werkzeug.routing import Rule
from wtforms import Form

from apps.errors import StaleVersion
from apps.forms.fields import JsonForm
from apps.forms.urlencoded import UrlEncodedForm
from apps.http import cookies, openapi_info
from apps.http.contract import Contract, Policy
from apps.http.converters import DocumentedConverter
from apps.http.openapi_errors import NOTHING, envelope, error_responses
from apps.http.openapi_forms import REF, body_components, fields_components, form_schema, reference

Json = dict[str, Any]
Route = tuple[Rule, str, Any, Contract]  # (rule, method, view, contract)

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
    routes = list(_documented(current_app))
    return {
        "openapi": "3.1.0",
        "info": openapi_info.info(),
        "servers": [{"url": "/"}],
        "tags": openapi_info.tags(view.__module__ for _, _, view, _ in routes),
        "paths": _paths(routes),
        "components": {**_components(routes), "securitySchemes": _security_schemes()},
    }


def _documented(app: Flask) -> Iterator[Route]:
    for rule, method, view, contract in contracts(app):
        if contract and contract.answer:
            yield rule, method, view, contract


def _components(routes: list[Route]) -> Json:
    """Return what several routes share: the schemas of answers, bodies and errors, and the error responses."""
    errors = {error.name: error for rule, _, _, contract in routes for error in error_responses(rule, contract)}
    bodies = [contract.form for *_, contract in routes if contract.form]
    queries = [contract.query for *_, contract in routes if contract.query]
    schemas = _answer_components(routes) | body_components(bodies) | fields_components([*bodies, *queries]) | NOTHING
    schemas |= {name: error.schema for name, error in errors.items()}
    responses = {name: error.response for name, error in sorted(errors.items())}
    return {"schemas": dict(sorted(schemas.items())), "responses": responses}


def _answer_components(routes: list[Route]) -> Json:
    answers = {contract.answer for *_, contract in routes if contract.answer}
    _, schemas = msgspec.json.schema_components(sorted(answers, key=lambda answer: answer.__name__), ref_template=REF)
    for schema in schemas.values():
        schema["additionalProperties"] = False
    _require_tokens(schemas)
    return schemas


def _require_tokens(schemas: Json) -> None:
    """Mark the tokens of an answer as required, unless they travel in cookies."""
    if not cookies.is_on():
        schemas["LoginAnswer"]["required"] += ["access_token", "refresh_token"]
        schemas["RefreshAnswer"]["required"] = ["access_token"]


def _security_schemes() -> Json:
    schemes: Json = {}
    for kind, name in (("access", cookies.ACCESS), ("refresh", cookies.REFRESH)):
        description = f"The {kind} token."
        schemes[kind] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": description}
        if cookies.is_on():
            schemes[f"{kind}_cookie"] = {"type": "apiKey", "in": "cookie", "name": name, "description": description}
    schemes["client"] = {"type": "http", "scheme": "basic", "description": "A client id and its secret."}
    return schemes


def _paths(routes: list[Route]) -> Json:
    rules = {_operation_id(view, contract): rule for rule, _, view, contract in routes}
    paths: dict[str, Json] = defaultdict(dict)
    for rule, method, view, contract in routes:
        paths[documented_path(rule)][method.lower()] = _operation(rule, method, view, contract, rules)
    return dict(sorted(paths.items()))


def documented_path(rule: Rule) -> str:
    """Return the path of a rule in OpenAPI's syntax: `/users/<id:user_id>` becomes `/users/{user_id}`."""
    return _PATH_PARAMETER.sub(r"{\2}", rule.rule)


def _operation(rule: Rule, method: str, view: Any, contract: Contract, rules: dict[str, Rule]) -> Json:
    summary, *paragraphs = [" ".join(text.split()) for text in (inspect.getdoc(view) or "").split("\n\n")]
    scope = f" Scope: `{contract.scope}`." if contract.scope else ""
    operation = {
        "operationId": _operation_id(view, contract),
        "tags": [openapi_info.tag_of(view.__module__)],
        "summary": summary,
        "description": "\n\n".join([*paragraphs, f"For: {contract.policy.value}{scope}"]),
        "security": [{scheme: []} for scheme in _schemes_of(contract)],
        "responses": _responses(rule, contract, rules),
    }
    optional: Json = {
        "parameters": [*_path_parameters(rule), *_other_parameters(method, contract)],
        "requestBody": _request_body(contract.form) if contract.form else None,
    }
    return operation | {name: value for name, value in optional.items() if value}


def _operation_id(view: Any, contract: Contract) -> str:
    """Return the `operationId`, from which client generators make the name of a function."""
    return contract.name or view.__name__


def _schemes_of(contract: Contract) -> list[str]:
    """Return the security schemes that a route accepts, any one of them. Without one, the route is open."""
    if contract.policy is Policy.CLIENT:
        return ["client"]
    if contract.token is None:
        return []
    kinds = ("access", "refresh") if contract.is_logout else (contract.token,)
    return [*kinds, *(f"{kind}_cookie" for kind in kinds if cookies.is_on())]


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
    media = {"schema": reference(form), "example": form.example}
    kind = "application/x-www-form-urlencoded" if issubclass(form, UrlEncodedForm) else "application/json"
    described = {"description": "No body, and `null`, count as `{}`."} if form.may_be_empty else {}
    return {**described, "required": not form.may_be_empty, "content": {kind: media}}


def _responses(rule: Rule, contract: Contract, rules: dict[str, Rule]) -> Json:
    success = {
        "description": "Done.",
        "headers": _headers(contract),
        "content": {"application/json": {"schema": _success_schema(contract)}},
        "links": {name: _link(name, contract, rules[name]) for name in contract.links},
    }
    responses: Json = {"200": {name: value for name, value in success.items() if value}}
    return responses | {str(error.status): error.reference for error in error_responses(rule, contract)}


def _headers(contract: Contract) -> Json:
    sends_csrf_token = contract.sends_csrf_token and cookies.is_on()
    return (_ETAG if contract.has_etag else {}) | (_SENT_CSRF if sends_csrf_token else {})


def _link(name: str, contract: Contract, rule: Rule) -> Json:
    """Return a link to an operation whose path needs an id: that of the answer, or of the first item of a list."""
    place = "/data" if "id" in getattr(contract.answer, "__struct_fields__", ()) else "/data/data/0"
    return {
        "operationId": name,
        "parameters": {f"path.{argument}": f"$response.body#{place}/id" for argument in sorted(rule.arguments)},
    }


def _success_schema(contract: Contract) -> Json:
    assert contract.answer  # noqa: S101 (`_documented` skips routes without one)
    answer = {"$ref": REF.format(name=contract.answer.__name__)}
    return envelope(200, data=answer) if contract.is_enveloped else answer


def _query_parameters(query: type[Form]) -> list[Json]:
    properties: Json = form_schema(query)["properties"]
    parameters = []
    for name, schema in properties.items():
        kind = next(kind for kind in schema["type"] if kind != "null")  # a query string has no null
        parameters.append({"name": name, "in": "query", "schema": {**schema, "type": kind}})
    return parameters
