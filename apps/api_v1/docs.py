"""The OpenAPI document, and a documentation page that works without internet access."""

from pathlib import Path

import flask_swagger_ui
import msgspec
from flask import Blueprint, Response, abort, send_from_directory, url_for

from apps.api_v1.blueprint import api_v1
from apps.http import openapi
from apps.http.contract import Policy
from apps.http.endpoint import endpoint

front_page = Blueprint("front_page", __name__)  # at the root beside the API, in development only

_SWAGGER_UI = Path(flask_swagger_ui.__file__).parent / "dist"
_ASSETS = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"

# Absolute paths: a relative link resolves differently at /docs/ and at /docs.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Gatehouse API</title>
<link rel="stylesheet" href="{docs}/swagger-ui.css">
<link rel="icon" href="{docs}/favicon-32x32.png">
</head>
<body>
<div id="page"></div>
<script src="{docs}/swagger-ui-bundle.js"></script>
<script src="{docs}/start.js"></script>
</body>
</html>
"""
# validatorUrl null: the page must not send requests to another server.
_START = 'SwaggerUIBundle({url: "%s", dom_id: "#page", validatorUrl: null, tryItOutEnabled: true});\n'


@api_v1.get("/openapi.json")
@endpoint(policy=Policy.ANYONE, answer=None)
def openapi_json() -> Response:
    """Return the OpenAPI 3.1 document."""
    return Response(msgspec.json.encode(openapi.document()), mimetype="application/json")


@api_v1.get("/docs")
@endpoint(policy=Policy.ANYONE, answer=None)
def docs() -> Response:
    """Return the documentation page."""
    response = Response(_PAGE.format(docs=url_for(".docs")), mimetype="text/html")
    response.headers["Content-Security-Policy"] = f"{_POLICY}; frame-ancestors 'none'"
    return response


@front_page.get("/")
@endpoint(policy=Policy.ANYONE, answer=None)
def to_docs() -> Response:
    """Redirect a browser to the documentation page."""
    return Response(status=303, headers={"Location": url_for("api_v1.docs")})


@api_v1.get("/docs/<asset>")
@endpoint(policy=Policy.ANYONE, answer=None)
def docs_asset(asset: str) -> Response:
    """Return a file of the documentation page."""
    if asset == "start.js":
        return Response(_START % url_for(".openapi_json"), mimetype="text/javascript")
    if asset not in _ASSETS:
        abort(404)
    return send_from_directory(_SWAGGER_UI, asset, max_age=3600)
