"""I1, I2, I3: no input causes a 5xx. Every response has the envelope and is the same on every database.

The test client checks the envelope, the headers and the OpenAPI document on each response.
"""

import io
import json
import unicodedata
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse
from wtforms import Form

from apps.extensions import db
from apps.forms.binding import fields_of, is_required
from apps.forms.fields import JsonForm
from apps.http.contract import Policy
from tests.support import corpus
from tests.support.every_route import contracts, path_of
from tests.support.people import PASSWORD, People, Person, bearer, sign_up_body

JSON = {"Content-Type": "application/json"}
LIMIT = 64 * 1024
UNSIZED = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}

Route = tuple[str, str, type[JsonForm]]


def body_routes(app: Flask, person: Person) -> list[Route]:
    """Return method, path and form of each route with a JSON body, but the logout. Paths are about the person."""
    headers = bearer(person.access_token)
    return [
        (method, path_of(rule, person.client, headers, person).removeprefix("/api/v1"), contract.form)
        for rule, method, contract in contracts(app)
        if contract.form and contract.policy is not Policy.CLIENT and not contract.form.may_be_empty
    ]


def is_needed(form: type[Form], path: corpus.Path) -> bool:
    """Return True if a body must hold the field at `path`."""
    field = fields_of(form)[path[0]]
    return is_required(field) if len(path) == 1 else is_needed(field.args[0], path[1:])


def fault(response: TestResponse) -> tuple[int, str | None]:
    return response.status_code, response.get_json().get("error", {}).get("type")


def users(app: Flask) -> list[tuple[Any, ...]]:
    with app.app_context():
        return [tuple(row) for row in db.session.execute(text("SELECT * FROM users ORDER BY id"))]


def test_there_are_routes_to_try(app: Flask, people: People) -> None:
    alice = people.sign_up()
    methods = [(method, path.partition(str(alice.id))[0]) for method, path, _ in body_routes(app, alice)]
    assert {("POST", "/users/"), ("PUT", "/users/"), ("PATCH", "/users/"), ("POST", "/login")} <= set(methods)


@pytest.mark.timeout(180)  # nearly a thousand requests
def test_a_malformed_body_is_a_400_and_changes_nothing(app: Flask, people: People) -> None:
    """I1, I2."""
    alice = people.admin()
    before = users(app)
    odd = {}
    for method, path, form in body_routes(app, alice):
        for name, body in corpus.malformed(form).items():
            answer = fault(alice.request(method, path, data=body, headers=JSON))
            if answer != (400, "invalid_body"):
                odd[method, path, name] = answer
    assert odd == {}
    assert users(app) == before


def test_a_field_that_no_client_may_set_is_refused_by_its_name(app: Flask, people: People) -> None:
    """Z2: fields are allow-listed, and no other field is silently dropped."""
    alice = people.admin()
    before = users(app)
    odd = []
    for method, path, form in body_routes(app, alice):
        for name, body in corpus.unknown_names(form):
            faults: Any = ["Unknown field."]
            for part in reversed(name):
                faults = {part: faults}
            if alice.request(method, path, json=body).get_json()["error"].get("fields") != faults:
                odd.append((method, path, name))
    assert odd == []
    assert users(app) == before


def test_null_is_a_missing_field_where_one_is_needed(app: Flask, people: People) -> None:
    """I2."""
    alice = people.admin()
    wrong = []
    for method, path, form in body_routes(app, alice):
        for leaf in corpus.leaves(form):
            status = alice.request(method, path, json=corpus.changed(form.example, leaf, None)).status_code
            if (status == 400) != is_needed(form, leaf) or (method == "PATCH" and status != 200):
                wrong.append((method, path, leaf, status))
    assert wrong == []


def test_only_plain_json_is_read(app: Flask, people: People) -> None:
    """I2: 415 for any other media type, charset or encoding, even with a valid body."""
    alice = people.admin()
    odd = {}
    for method, path, form in body_routes(app, alice):
        for name, headers in corpus.REFUSED_MEDIA.items():
            answer = fault(alice.request(method, path, data=json.dumps(form.example).encode(), headers=headers))
            if answer != (415, "unsupported_media_type"):
                odd[method, path, name] = answer
    assert odd == {}


@pytest.mark.parametrize(
    "content_type",
    [
        *("APPLICATION/JSON", "application/json;charset=UTF-8", 'application/json; x="y"'),
        *(f"application/json; charset={name}" for name in ("utf8", "UTF8", '"utf-8"', "us-ascii", "US-ASCII", "ascii")),
    ],
)
@pytest.mark.parametrize("coding", [{}, *({"Content-Encoding": text} for text in ("identity", "Identity", ""))])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.stores("sqlite")
def test_json_may_be_said_in_other_letters(
    client: FlaskClient, content_type: str, coding: dict[str, str], bom: bytes
) -> None:
    """I2; RFC 9110, 8.3.1: media types and parameter names are case-insensitive."""
    body = bom + json.dumps({"username": "nobody-there", "password": PASSWORD}).encode()
    headers = {"Content-Type": content_type, **coding}
    assert client.post("/api/v1/login", data=body, headers=headers).status_code == 401


@pytest.mark.stores("sqlite")
def test_a_415_names_the_media_type_of_the_route(app: Flask, client: FlaskClient) -> None:
    """I2."""
    for rule, method, contract in contracts(app):
        if contract.form and contract.policy is Policy.ANYONE:
            response = client.open(rule.rule, method=method, data=b"{}", headers={"Content-Type": "text/plain"})
            assert fault(response) == (415, "unsupported_media_type")
            assert "application/json" in response.get_json()["message"]


@pytest.mark.stores("sqlite")
def test_a_password_of_a_mac_is_the_one_of_windows(people: People) -> None:
    """P3, P4: lengths are those of NFC, at sign-up, login and change alike."""
    composed = "ä" * 65
    decomposed = unicodedata.normalize("NFD", composed)
    people.sign_up("jürgen-müller", password=composed)
    person = people.log_in(unicodedata.normalize("NFD", "jürgen-müller"), decomposed)
    changed = person.post("/password", json={"current_password": decomposed, "new_password": "é" * 128})
    assert changed.status_code == 200
    people.log_in("jürgen-müller", unicodedata.normalize("NFD", "é" * 128))


@pytest.mark.stores("sqlite")
def test_a_long_name_that_was_sent_decomposed_fits_its_column(people: People) -> None:
    """I3: it is stored in NFC; the name as sent logs in, and so does its other form."""
    sent = unicodedata.normalize("NFD", "é" * 64)
    assert people.sign_up(sent).username == "é" * 64
    person = people.log_in(sent)
    assert person.get("/users/").get_json()["data"]["username"] == "é" * 64
    assert people.log_in("é" * 64).id == person.id


@pytest.mark.parametrize("overrides", [{}, UNSIZED], ids=["with a length", "chunked"])
@pytest.mark.parametrize("surplus", [1, LIMIT, 100_000 - LIMIT])
@pytest.mark.stores("sqlite")
def test_a_body_over_64_kb_is_a_413(app: Flask, people: People, overrides: dict[str, Any], surplus: int) -> None:
    """I2, API4: also without Content-Length, and if the part below the limit is a valid body."""
    alice = people.admin()
    for method, path, form in body_routes(app, alice):
        body = json.dumps(form.example).encode().ljust(LIMIT + surplus)
        response = alice.request(method, path, data=body, headers=JSON, environ_overrides=overrides)
        assert fault(response) == (413, "request_entity_too_large")


@pytest.mark.parametrize(("overrides", "size"), [({}, LIMIT), (UNSIZED, LIMIT - 1)], ids=["with a length", "chunked"])
@pytest.mark.stores("sqlite")
def test_a_body_of_64_kb_is_read(client: FlaskClient, overrides: dict[str, Any], size: int) -> None:
    body = json.dumps(sign_up_body()).encode().ljust(size)
    response = client.post("/api/v1/users/", data=body, headers=JSON, environ_overrides=overrides)
    assert response.status_code == 200


@pytest.mark.parametrize("bomb", corpus.BOMBS.values(), ids=corpus.BOMBS)
@pytest.mark.stores("sqlite")
def test_a_bomb_without_a_length_is_a_413(client: FlaskClient, bomb: bytes) -> None:
    """I2: 413, before the body is parsed."""
    response = client.post("/api/v1/users/", input_stream=io.BytesIO(bomb), headers=JSON, environ_overrides=UNSIZED)
    assert response.status_code == 413


TEXTS = [
    ("username", "张三丰的账号", 200),
    ("username", "имярек-имярек", 200),
    ("username", "שלום-עולם", 200),
    ("username", "josé.maría", 200),
    ("username", "o'reilly\"--;%s{0}<b>", 200),
    ("username", "a" * 64, 200),
    ("username", "a" * 65, 400),
    ("username", "é" * 64, 200),
    ("username", "e\u0301" * 32, 200),
    ("username", "a" * 60_000, 400),
    ("username", "\ufb2c" * 64, 400),  # three code points each after normalisation: 192
    ("username", "İ" * 64, 400),
    ("username", "😀" * 8, 400),
    ("username", "zero\u200bwidth", 400),
    ("username", "two words", 400),
    ("username", "trailing\n", 400),
    ("password", "😀" * 128, 200),
    ("password", "\u202e\ufeff\n\t \x7f\x01\x1b", 200),
    ("password", " " * 8, 200),
    ("password", "p" * 129, 400),
    ("password", "p" * 60_000, 400),
    ("mobile", "+86 (132) 0000-1111", 200),
    ("mobile", "123456789012345", 200),
    ("mobile", "1234567890123456", 400),
    ("mobile", "١٣٢٠٠٠٠١١١١", 200),
    ("mobile", "(415)\u00a0555‑2671", 200),
    ("mobile", "1" * 5 + " " * 60, 400),
    ("mobile", "13200001111\n", 400),
    ("mobile", "1" * 60_000, 400),
    ("mobile", "1 " * 30_000, 400),
    ("age", 18, 200),
    ("age", 150, 200),
    ("age", 17, 400),
    ("age", 151, 400),
    ("age", 2**63 - 1, 400),
    ("age", -(2**63), 400),
    ("birth", "1800-01-01 00:00:00", 200),
    ("birth", "2099-12-31 23:59:59", 400),
    ("birth", "1799-12-31 23:59:59", 400),
    ("birth", "2023-02-30 00:00:00", 400),
    ("birth", "2023-08-23 24:00:00", 400),
    ("birth", "2023-08-23 23:59:60", 400),
    ("birth", "2023-08-23T12:30:59", 400),
    ("birth", "2023-08-23 12:30:59\n", 400),
    ("birth", "٢٠٢٣-08-23 12:30:59", 400),
]


def test_every_database_takes_and_refuses_the_same_values(people: People) -> None:
    """I3: no result depends on the width, type or character set of a column."""
    odd = []
    for number, (field, value, status) in enumerate(TEXTS):
        path = ("info", field) if field in ("age", "birth") else (field,)
        body = corpus.changed(sign_up_body(), path, value)
        response = people.client.post("/api/v1/users/", json=body)
        same = response.status_code == 200 and response.get_json()["data"].get(field, value) == value
        if response.status_code != status or (status == 200 and not same):
            odd.append((number, field, value, response.text))
    assert odd == []


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("张三丰的账号", "密码密码密码密码"),
        ("имярек-имярек", "пароль 😀 'quoted\" \\ %s"),
        ("ΑΛΕΞΑΝΔΡΟΣ", "ΑΛΕΞΑΝΔΡΟΣ ο Μέγας"),
        ("Jürgen-Müller", "ﬀ ligature \u212b \u200b"),
        ("नरेंद्र.मोदी", "पासवर्ड पासवर्ड"),
    ],
)
def test_a_person_of_any_script_lives_a_whole_life(people: People, username: str, password: str) -> None:
    """I3, I4: names and passwords in any script, with quotes, from sign-up to deletion."""
    people.sign_up(username, password=password)
    person = people.log_in(username.swapcase(), password)
    changed = person.patch(f"/users/{person.id}", json={"info": {"age": 99}}).get_json()["data"]
    assert (changed["username"], changed["age"]) == (username, 99)
    assert person.get("/users/").get_json()["data"] == changed | {"cache": True}
    assert person.delete(f"/users/{person.id}").status_code == 200


PATHS = {
    **dict.fromkeys(["/users/0", "/users/-1", "/users/01", "/users/+1", "/users/1.0", "/users/1e3", "/users/0x1"], 404),
    **dict.fromkeys(
        [f"/users/{2**63}", f"/users/{2**64 + 1}", "/users/" + "9" * 5000, "/users/1٣", "/users/٣", "/users/１"], 404
    ),
    **dict.fromkeys(["/users/%00", "/users/1%00", "/users/%2e%2e", "/users/../users/1", "/users/1/../2"], 404),
    **dict.fromkeys(["/users/%ff", "/users/%", "/users/1%20", "/users/1;a=b", "/users/None"], 404),
    **dict.fromkeys(["//users/", "//users//1", "/Users/", "/users/{id}", "/users/*", "/users/' OR 1"], 404),
    **dict.fromkeys(["/users", "/users/", "/users//", "/users/?a=1&a=%00", "/users/?%ff"], 200),
    f"/users/{2**63 - 1}": 403,
}


def test_a_path_names_one_thing_or_nothing(people: People) -> None:
    """F14: an id is ASCII digits within 64 bits. Any other path is a 404, never a redirect or a 500."""
    alice = people.sign_up()
    assert {path: alice.get(path).status_code for path in PATHS} == PATHS


@pytest.mark.stores("sqlite")
def test_a_slash_at_the_end_changes_nothing(people: People) -> None:
    alice = people.sign_up()
    assert alice.get(f"/users/{alice.id}/").data == alice.get(f"/users/{alice.id}").data == alice.get("/users").data


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_the_largest_id_is_asked_of_the_database(people: People, method: str) -> None:
    """F14."""
    response = people.admin().request(method, f"/users/{2**63 - 1}", json=sign_up_body())
    assert fault(response) == (404, "user_not_found")


def test_no_header_is_a_5xx(client: FlaskClient) -> None:
    """I1."""
    odd = []
    for header in corpus.ODD_HEADERS:
        environ = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in header.items()}
        if "Content-Length" in header:
            environ = {"CONTENT_LENGTH": header["Content-Length"]}
        response = client.post("/api/v1/users/", json=sign_up_body(), environ_overrides=environ)
        if response.status_code != (400 if "Content-Length" in header else 200):
            odd.append((header, response.text))
    assert odd == []


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize(
    "header", [", ,", "Bearer", "Bearer \xff", "Bearer \0", "Basic Og==", "Digest a=,", "Bearer a b"]
)
def test_no_authorization_header_is_a_5xx(client: FlaskClient, header: str) -> None:
    """I1."""
    response = client.get("/api/v1/users/", environ_overrides={"HTTP_AUTHORIZATION": header})
    assert fault(response) == (401, "invalid_token")


@pytest.mark.stores("sqlite")
def test_a_bodyless_route_does_not_read_its_body(people: People) -> None:
    """I1: a route without a body ignores a body that is malformed, huge or of another media type."""
    alice = people.sign_up()
    for data in (b"\xff[[", b"x" * (LIMIT + 1)):
        assert alice.get("/users/", data=data, headers=JSON).status_code == 200
        assert alice.post("/refresh", token=alice.refresh_token, data=data).status_code == 200
    assert alice.delete(f"/users/{alice.id}", data=b"{", headers=JSON).status_code == 200


@pytest.mark.stores("sqlite")
def test_a_refusal_does_not_hold_the_password(client: FlaskClient) -> None:
    """L1: the errors name the fields, not their values."""
    response = client.post("/api/v1/users/", json=sign_up_body(age=1, mobile="x"))
    assert response.status_code == 400
    assert PASSWORD not in response.text
