"""A test client that checks every answer against the OpenAPI document.

The suite sends every request through it, so the document, the headers and the envelope are checked on every answer.
"""

from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from apps.config import settings
from apps.http import openapi
from apps.http.headers import HEADERS

_documents: dict[tuple[str, ...], dict[str, Any]] = {}


class DocumentedClient(FlaskClient):
    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        response = super().open(*args, **kwargs)
        check_headers(response)
        if response.request.method == "HEAD":
            return response  # no body to check
        if response.mimetype == "application/json" and "openapi" not in response.request.path:
            if not response.request.path.endswith("/introspect") or response.status_code >= 400:
                check_envelope(response)
            check_documented(self.application, response)
        return response


def check_headers(response: TestResponse) -> None:
    missing = [name for name in HEADERS if name not in response.headers]
    assert not missing, f"{response.request.path} answers without {missing}"
    if response.status_code == 401:
        assert response.headers["WWW-Authenticate"].startswith(("Bearer", "Basic"))
    if response.status_code in (429, 503):
        assert int(response.headers["Retry-After"]) >= 1


def check_envelope(response: TestResponse) -> None:
    body = response.get_json()
    keys = {"code", "data", "message", "state"}
    assert set(body) == (keys if response.status_code < 400 else keys | {"error"})
    assert body["code"] == response.status_code
    assert body["state"] == 0


def check_documented(app: Flask, response: TestResponse) -> None:
    document = _document(app)
    path = _documented_path(app, response)
    operation = document["paths"].get(path, {}).get(response.request.method.lower())
    if operation is None:
        is_expected = response.status_code in (404, 405) or response.request.path == "/metrics"
        assert is_expected, f"{response.request.method} {path} is not documented"
        return
    status = str(response.status_code)
    if status not in operation["responses"]:
        raise AssertionError(f"{response.request.method} {path}: {status} is not documented")
    documented = resolved(document, operation["responses"][status])
    for name in ("ETag", "X-CSRF-Token"):
        assert (name in response.headers) == (name in documented.get("headers", {})), name
    schema = documented["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(response.get_json())


def resolved(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """Return the component that a node refers to, or the node itself."""
    if "$ref" not in node:
        return node
    found = document
    for name in node["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found


def _document(app: Flask) -> dict[str, Any]:
    """Return the document, built once for all applications of the same routes and settings."""
    key = (*map(str, app.url_map.iter_rules()), repr(settings(app)))
    if key not in _documents:
        with app.app_context():
            _documents[key] = openapi.document()
    return _documents[key]


def _documented_path(app: Flask, response: TestResponse) -> str | None:
    adapter = app.url_map.bind("localhost")
    try:
        rule, _ = adapter.match(response.request.path, response.request.method, return_rule=True)
    except HTTPException:
        return None
    return openapi.documented_path(rule)
