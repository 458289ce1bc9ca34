"""I6, I7, I9: the headers of every response, CORS, and methods."""

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from apps import create_app
from tests.support.every_route import contracts, path_of
from tests.support.people import PASSWORD, People, Person, bearer, sign_up_body

pytestmark = pytest.mark.stores("sqlite")

SECURITY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
LOGIN = {"username": "alice-liddell", "password": PASSWORD}
ANSWERS: list[tuple[int, str, str, dict[str, Any]]] = [
    (200, "GET", "/healthz", {}),
    (200, "GET", "/readyz", {}),
    (200, "POST", "/api/v1/users/", {"json": sign_up_body("white-rabbit")}),
    (200, "OPTIONS", "/api/v1/users/", {}),
    (200, "HEAD", "/healthz", {}),
    (200, "GET", "/api/v1/openapi.json", {}),
    (400, "POST", "/api/v1/users/", {"json": []}),
    (401, "GET", "/api/v1/users/", {}),
    (401, "GET", "/api/v1/users/1", {"headers": bearer("x")}),
    (401, "POST", "/api/v1/refresh", {"headers": {"Authorization": ", ,"}}),
    (401, "POST", "/api/v1/login", {"json": LOGIN}),
    (404, "GET", "/", {}),
    (404, "GET", "/api/v1/users/0", {}),
    (404, "GET", "/api/v1/docs/nothing.js", {}),
    (405, "DELETE", "/api/v1/users/", {}),
    (405, "TRACE", "/healthz", {}),
    (413, "POST", "/api/v1/login", {"data": b"x" * 100_000, "content_type": "application/json"}),
    (415, "POST", "/api/v1/login", {"data": b"{}"}),
]


def plain(app: Flask) -> FlaskClient:
    """Return a client that does not check responses against the OpenAPI document, which does not describe HEAD."""
    return FlaskClient(app)


def check(response: TestResponse) -> None:
    assert {name: response.headers.getlist(name) for name in SECURITY} == {k: [v] for k, v in SECURITY.items()}
    assert "Server" not in response.headers
    assert "X-Powered-By" not in response.headers
    assert re.fullmatch(r"[0-9a-f]{16}", response.headers["X-Request-ID"])


@pytest.mark.parametrize(("status", "method", "path", "request_"), ANSWERS)
def test_every_answer_has_the_security_headers(
    app: Flask, status: int, method: str, path: str, request_: dict[str, Any]
) -> None:
    """I6."""
    response = plain(app).open(path, method=method, **request_)
    assert response.status_code == status
    check(response)
    if method != "OPTIONS":  # Flask answers it, with an empty body
        assert response.content_type == "application/json"  # RFC 8259, 8.1: always UTF-8, without a charset parameter


def test_the_refusals_of_a_person_have_them_too(people: People) -> None:
    """I6: 403, 404 and 409."""
    alice, admin = people.sign_up("alice-liddell"), people.admin()
    responses = [
        alice.get(f"/users/{admin.id}"),
        admin.get("/users/999999"),
        admin.delete(f"/users/{admin.id}"),
        people.client.post("/api/v1/users/", json=sign_up_body("ALICE-liddell")),
    ]
    assert [response.status_code for response in responses] == [403, 404, 409, 409]
    for response in responses:
        check(response)


@pytest.mark.settings(SIGN_UP_LIMIT="1/minute")
def test_too_many_requests_are_told_when_to_come_back(client: FlaskClient) -> None:
    """I6, B5."""
    client.post("/api/v1/users/", json=sign_up_body())
    response = client.post("/api/v1/users/", json=sign_up_body())
    assert response.status_code == 429
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    check(response)


def test_an_unforeseen_error_has_them_and_says_nothing(app: Flask) -> None:
    """I6, ASVS 16.5.1."""

    def fail() -> None:
        raise RuntimeError("secret of the house")

    app.view_functions["health.healthz"] = fail
    response = plain(app).get("/healthz")
    assert (response.status_code, response.get_json()["error"]) == (500, {"type": "internal_error"})
    assert "secret" not in response.text
    check(response)


def test_a_lost_database_has_them() -> None:
    """I6, V2."""
    app = create_app("testing", DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    response = plain(app).post("/api/v1/login", json=LOGIN)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert "nobody" not in response.text
    check(response)


def test_the_page_of_the_documents_runs_scripts_of_its_own_only(client: FlaskClient) -> None:
    """I6, ASVS 3.4.3."""
    policy = client.get("/api/v1/docs").headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("given", ["a1b2c3d4", "req.2024-07-01_17", "x" * 64])
def test_a_request_keeps_the_id_that_it_came_with(client: FlaskClient, given: str) -> None:
    assert client.get("/nowhere", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "short", "x" * 65, "with space", 'a"b"c"d"', "éééééééé", "%0d%0aSet-Cookie"])
def test_an_id_that_is_none_is_replaced(client: FlaskClient, given: str) -> None:
    """L2: a request id cannot inject text into the log."""
    ids = [client.get("/nowhere", headers={"X-Request-ID": given}).headers["X-Request-ID"] for _ in range(2)]
    assert ids[0] != ids[1]
    assert all(re.fullmatch(r"[0-9a-f]{16}", name) for name in ids)


OURS = "https://app.example.com"
FOREIGN = [
    "https://app.example.com.evil.example",
    "https://evil-app.example.com",
    "https://evilapp.example.com",
    "https://sub.app.example.com",
    "https://app-example.com",
    "https://appxexample.com",
    "https://app.example.com:444",
    "http://app.example.com",
    "https://APP.example.com",
    "https://app.example.com/",
    "https://app.example.com@evil.example",
    "https://app.example.com evil.example",
    "null",
    "*",
    "file://",
    "http://[::1]:30000",
    "http://:3000.evil.example",
    "http://1:3000",
]
cors = pytest.mark.settings(CORS_ORIGINS=[OURS, "http://[::1]:3000"])


def allowed(response: TestResponse) -> dict[str, str]:
    return {name: value for name, value in response.headers if name.startswith("Access-Control-")}


@cors
@pytest.mark.parametrize("origin", FOREIGN)
def test_an_origin_that_is_not_listed_to_the_letter_gets_nothing(client: FlaskClient, origin: str) -> None:
    """I7: no suffix, prefix, port, scheme, case or pattern matches, for a response, an error or a preflight."""
    preflight = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    assert allowed(client.get("/healthz", headers={"Origin": origin})) == {}
    assert allowed(client.get("/nowhere", headers={"Origin": origin})) == {}
    assert allowed(client.options("/api/v1/users/1", headers=preflight)) == {}


@cors
@pytest.mark.parametrize("origin", [OURS, "http://[::1]:3000"])
def test_a_listed_origin_may_read_answers_and_errors(client: FlaskClient, origin: str) -> None:
    """I7: without credentials, because no cookie authenticates."""
    for path in ("/healthz", "/nowhere", "/api/v1/users/"):
        response = client.get(path, headers={"Origin": origin})
        exposed = {"Access-Control-Expose-Headers": "ETag, Retry-After, WWW-Authenticate, X-Request-ID"}
        assert allowed(response) == {"Access-Control-Allow-Origin": origin} | exposed
        assert "Origin" in response.headers["Vary"]


@cors
def test_a_listed_origin_may_send_a_token(client: FlaskClient) -> None:
    headers = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization, content-type"}
    response = client.options("/api/v1/users/1", headers={"Origin": OURS} | headers)
    assert allowed(response)["Access-Control-Allow-Origin"] == OURS
    assert allowed(response)["Access-Control-Allow-Headers"] == "authorization, content-type"
    assert "PUT" in allowed(response)["Access-Control-Allow-Methods"]


@cors
def test_who_names_no_origin_does_not_learn_the_list(client: FlaskClient) -> None:
    """I7: a request without Origin gets none of the allowed origins."""
    assert allowed(client.get("/healthz")) == {}


@pytest.mark.parametrize("origin", [OURS, "null", "*"])
def test_no_other_origin_is_allowed_by_default(client: FlaskClient, origin: str) -> None:
    """I7."""
    assert allowed(client.get("/healthz", headers={"Origin": origin})) == {}


def test_a_route_takes_its_methods_and_no_other(app: Flask) -> None:
    """I9: 405 with Allow for every other method, including TRACE, CONNECT and unknown ones."""
    declared: dict[str, set[str]] = {}
    nobody = Person(plain(app), 1, "", "", "")
    for rule, method, _ in contracts(app):
        path = path_of(rule, nobody.client, {}, nobody)
        declared.setdefault(path, {"OPTIONS"}).update({method, "HEAD"} if method == "GET" else {method})
    every = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "QUERY"}
    for path, methods in declared.items():
        for method in sorted(every - methods):
            response = plain(app).open(path, method=method)
            assert (path, method, response.status_code) == (path, method, 405)
            assert set(response.headers["Allow"].split(", ")) == methods
        assert plain(app).options(path).headers["Allow"] == response.headers["Allow"]


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"])
def test_nothing_overrides_the_method(people: People, name: str) -> None:
    """I9."""
    alice = people.sign_up()
    response = alice.get(f"/users/{alice.id}?_method=DELETE", headers={name: "DELETE"})
    assert (response.status_code, response.get_json()["message"]) == (200, "SUCCESS")
    assert alice.post(f"/users/{alice.id}", headers={name: "DELETE"}).status_code == 405
    assert alice.get("/users/").status_code == 200


def test_head_is_get_without_its_body(app: Flask, people: People) -> None:
    """RFC 9110, 9.3.2."""
    alice = people.sign_up()
    headers = bearer(alice.access_token) | {"X-Request-ID": "the-same-one"}
    get, head = (plain(app).open("/api/v1/users/", method=m, headers=headers) for m in ("GET", "HEAD"))
    assert (head.status_code, head.data) == (200, b"")
    assert dict(head.headers) == dict(get.headers)
    assert plain(app).head("/api/v1/users/").status_code == 401
