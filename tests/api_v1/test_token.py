"""Tokens: their kinds, their place in the request, their maximum size, and the signing secret.

test_token_forgery.py covers forged claims and signatures.
"""

import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from apps import create_app
from apps.http.contract import Contract, Policy
from apps.settings.reader import InvalidSettings
from tests.support import stores
from tests.support.every_route import Headers, body_of, contracts, path_of
from tests.support.forge import HEADER, REFUSAL, claims_of, segment, signed, verdict
from tests.support.people import People, Person, bearer
from tests.support.settings import change_settings

Declared = tuple[Rule, str, Contract]


def with_token(app: Flask) -> list[Declared]:
    """Return each route that needs the token of a user; tests/contract/test_policies.py covers those for admins."""
    return [
        (rule, method, contract)
        for rule, method, contract in contracts(app)
        if contract.token and contract.policy is not Policy.ADMIN
    ]


def call(person: Person, declared: Declared, headers: Headers) -> TestResponse:
    """Call a route with everything it needs except a token."""
    rule, method, contract = declared
    path = path_of(rule, person.client, headers, person)
    return person.client.open(path, method=method, headers=headers, **body_of(contract, person))


@pytest.mark.stores("sqlite", "postgresql")
def test_a_token_opens_the_routes_of_its_kind_and_no_other(app: Flask, people: People) -> None:
    """T6: every kind on every route. A token passes only on the routes of its kind, and at a logout."""
    needed = with_token(app)
    routes = {(method, rule.rule) for rule, method, _ in needed}
    assert {("GET", "/api/v1/users/"), ("POST", "/api/v1/refresh"), ("POST", "/api/v1/logout")} <= routes
    odd = {}
    for rule, method, contract in needed:
        for sent in ("access", "refresh"):
            alice, passes = people.sign_up(), sent == contract.token or contract.is_logout
            headers = bearer(alice.access_token if sent == "access" else alice.refresh_token)
            response = call(alice, (rule, method, contract), headers)
            if (response.status_code == 200) != passes or (not passes and verdict(response) != REFUSAL):
                odd[method, rule.rule, sent] = verdict(response)
    assert odd == {}


@pytest.mark.stores("sqlite")
def test_a_refreshed_access_token_is_of_the_same_kind(people: People) -> None:
    """T6."""
    alice = people.sign_up()
    token = alice.refresh().get_json()["data"]["access_token"]
    assert verdict(alice.post("/refresh", token=token)) == REFUSAL
    assert alice.get("/users/", token=token).status_code == 200


@pytest.mark.stores("sqlite")
def test_without_a_token_the_challenge_names_no_error(app: Flask, people: People) -> None:
    """T13: RFC 6750, 3.1."""
    alice = people.sign_up()
    answers = [verdict(call(alice, declared, {})) for declared in with_token(app)]
    assert {(status, challenge) for status, _, challenge in answers} == {(401, "Bearer")}
    assert len({body for _, body, _ in answers}) == 1
    assert alice.get("/users/").status_code == 200


def test_the_tokens_of_a_deleted_account_open_nothing_for_who_comes_next(app: Flask, people: People) -> None:
    """T8: plain SQLite would reuse the id."""
    alice = people.sign_up("alice-liddell")
    alice.delete(f"/users/{alice.id}")
    again = people.sign_up("alice-liddell")
    assert again.id > alice.id
    change_settings(app, CACHE_PREFIX="emptied")
    assert verdict(alice.get("/users/")) == verdict(alice.refresh()) == REFUSAL
    assert again.get("/users/").get_json()["data"]["id"] == again.id


@pytest.mark.stores("sqlite")
def test_ids_are_not_given_out_again_by_a_new_application(app: Flask, database_url: str, people: People) -> None:
    """T8: not after a restart either."""
    alice = people.sign_up()
    alice.delete(f"/users/{alice.id}")
    with stores.application(database_url, "") as restarted:
        again = People(restarted.test_client()).sign_up()
    assert again.id > alice.id


NOT_BEARER = {
    "two, as one header": "Bearer {token}, Bearer {token}",
    "two tokens": "Bearer {token} {token}",
    "a list": "Bearer {token},",
    "commas": ", ,",
    "a comma": ",",
    "nothing": "",
    "a space": " ",
    "the scheme alone": "Bearer",
    "the scheme and a space": "Bearer ",
    "the token alone": "{token}",
    "no space": "Bearer{token}",
    "a tab": "Bearer\t{token}",
    "a colon": "Bearer: {token}",
    "quotes": 'Bearer "{token}"',
    "a parameter": "Bearer token={token}",
    "another scheme": "JWT {token}",
    "another scheme first": "Basic YTpi, Bearer {token}",
    "basic": "Basic YTpi",
    "full-width": "Ｂｅａｒｅｒ {token}",
    "bytes": "Bearer \xff\xfe",
    "NUL": "Bearer {token}\0",
}


@pytest.mark.parametrize("header", NOT_BEARER.values(), ids=NOT_BEARER)
@pytest.mark.stores("sqlite")
def test_only_one_bearer_token_is_read(people: People, header: str) -> None:
    """T10: `, ,` raises an IndexError in Flask-JWT-Extended 4.7."""
    alice = people.sign_up()
    headers = {"Authorization": header.format(token=alice.access_token).encode().decode("latin-1")}
    assert verdict(alice.client.get("/api/v1/users/", headers=headers)) == REFUSAL


@pytest.mark.stores("sqlite")
def test_two_headers_are_refused_even_when_they_agree(people: People) -> None:
    """T10: a proxy and this service could read different ones."""
    alice, bob = people.sign_up(), people.sign_up()
    for first, second in ((alice, alice), (alice, bob)):
        headers = [("Authorization", f"Bearer {person.access_token}") for person in (first, second)]
        assert verdict(alice.client.get("/api/v1/users/", headers=headers)) == REFUSAL


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR", "Bearer  "])
@pytest.mark.stores("sqlite")
def test_the_scheme_is_case_insensitive(people: People, scheme: str) -> None:
    """T10: RFC 9110, 11.1."""
    alice = people.sign_up()
    response = alice.client.get("/api/v1/users/", headers={"Authorization": f"{scheme} {alice.access_token}"})
    assert response.status_code == 200


def elsewhere(token: str) -> dict[str, dict[str, Any]]:
    """Return requests that carry a valid token in a place that is not read."""
    names = ("access_token", "jwt", "token", "Authorization", "authorization", "bearer")
    return {
        **{f"query {name}": {"query_string": {name: token}} for name in names},
        **{f"JSON {name}": {"json": {name: token}} for name in names},
        **{f"form {name}": {"data": {name: token}} for name in names},
        **{
            f"header {name}": {"headers": {name: f"Bearer {token}"}} for name in ("Proxy-Authorization", "X-Auth-Token")
        },
        **{f"cookie {name}": {"headers": {"Cookie": f"{name}={token}"}} for name in (*names, "access_token_cookie")},
    }


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.stores("sqlite")
def test_a_token_is_read_from_the_header_only(people: People, method: str) -> None:
    """T10: URLs end up in logs."""
    alice = people.sign_up()
    path, token = ("/users/", alice.access_token) if method == "GET" else ("/refresh", alice.refresh_token)
    requests = elsewhere(token)
    answers = {name: alice.client.open(f"/api/v1{path}", method=method, **sent) for name, sent in requests.items()}
    types = {name: answer.get_json().get("error", {}).get("type") for name, answer in answers.items()}
    assert types == dict.fromkeys(requests, "missing_token")


def oversized(token: str) -> dict[str, str]:
    """Return tokens that cost a naive parser time, memory or its stack."""
    claims = claims_of(token)
    bombs = {f"{depth} deep": b"[" * depth + b"]" * depth for depth in (100, 600, 50_000)}
    bombs |= {f"{depth} open": b"[" * depth for depth in (1000, 1400, 100_000)}
    in_header = {
        f"{name}, header": signed(claims, b'{"alg":"HS256","typ":"JWT","x":' + bomb + b"}")
        for name, bomb in bombs.items()
    }
    return {
        "8 kB": "a" * 8192,
        "1 MB": "a" * 2**20,
        "1 MB of claims": signed(claims | {"jti": "a" * 2**20}),
        "2 kB and otherwise good": signed(claims | {"jti": "a" * 1500}),
        "2049 characters": signed(claims | {"x": "a" * 1300})[:2049],
        "dots": "." * 100_000,
        "short of dots": "a." * 50_000,
        "a number of 5,000 digits": signed(b'{"exp":' + b"9" * 5000 + b"}"),
        "a number of 1,000 digits": signed(b'{"exp":' + b"9" * 1000 + b"}"),
        "20 keys, each twice": signed(json.dumps(claims).encode()[:-1] + b',"x":1' * 20 + b"}"),
        **in_header,
        **{f"{name}, claims": signed(bomb) for name, bomb in bombs.items()},
        **{
            f"{name}, one claim": signed(json.dumps(claims).encode()[:-1] + b',"x":' + bomb + b"}")
            for name, bomb in bombs.items()
        },
        **{
            f"{name}, bare header": f"{segment(bomb)}.{segment(claims)}.{segment(b'x')}" for name, bomb in bombs.items()
        },
    }


@pytest.mark.stores("sqlite")
def test_no_size_or_depth_of_a_token_is_a_server_error(people: People) -> None:
    """T9 (CVE-2025-61920)."""
    alice = people.sign_up()
    odd = {name: verdict(alice.get("/users/", token=token)) for name, token in oversized(alice.access_token).items()}
    assert {name: answer for name, answer in odd.items() if answer != REFUSAL} == {}
    assert alice.get("/users/").status_code == 200


JUNK = {
    "nothing signed": signed(b""),
    "null": signed(b"null"),
    "a list": signed(b'["exp"]'),
    "a text": signed(b'"exp"'),
    "a number": signed(b"1"),
    "no claims": signed({}),
    "no JSON": signed(b"{"),
    "no UTF-8": signed(b'{"sub":"\xff"}'),
    "half a pair": signed(b'{"sub":"\\ud800"}'),
    "BOM": signed(b"\xef\xbb\xbf{}"),
    "UTF-16": signed('{"sub":"1"}'.encode("utf-16")),
    **{
        f"header {header!r}": signed({"sub": "1"}, header)
        for header in (b"", b"null", b"[]", b'"HS256"', b"{}", b"\xff")
    },
    "a JWE": ".".join([segment({"alg": "dir", "enc": "A128GCM"}), "", "AA", "AA", "AA"]),
    "JSON serialisation": json.dumps({"payload": segment({}), "protected": segment(HEADER), "signature": ""}).replace(
        " ", ""
    ),
    "dots": "..",
    "one dot": ".",
    "not base64": "!.!.!",
    "words": "undefined",
}


@pytest.mark.stores("sqlite")
def test_what_is_no_token_gets_the_same_refusal(people: People) -> None:
    """T13: the response does not tell how close a forgery was."""
    alice = people.sign_up()
    answers = {name: verdict(alice.get("/users/", token=token)) for name, token in JUNK.items()}
    assert {name: answer for name, answer in answers.items() if answer != REFUSAL} == {}


@pytest.mark.stores("sqlite")
def test_a_refusal_differs_from_another_in_its_request_id_alone(people: People, client: FlaskClient) -> None:
    """T13: including the headers, for junk, for an ended session, and for a token of another kind."""
    alice, bob = people.sign_up(), people.sign_up()
    bob.post("/logout")
    tokens = ("junk", alice.refresh_token, bob.access_token, signed({"sub": "1"}))
    answers = [client.get("/api/v1/users/", headers=bearer(token)) for token in tokens]
    headers = [[(name, value) for name, value in answer.headers if name != "X-Request-ID"] for answer in answers]
    assert all(verdict(answer) == REFUSAL for answer in answers)
    assert all(other == headers[0] for other in headers)


@pytest.mark.parametrize(
    ("secret", "fault"),
    [
        ("", "is not set"),
        ("0123456789abcde", "is shorter than 32 bytes"),
        ("0123456789abcdef0123456789abcde", "is shorter than 32 bytes"),
        ("change-me: the output of `openssl rand -base64 32`", "is the placeholder of config.example.py"),
        ("abcabcabcabcabcabcabcabcabcabcabcabc", "repeats too few characters to be random"),
    ],
)
def test_a_signing_secret_that_can_be_guessed_stops_the_start(secret: str, fault: str) -> None:
    """T11: RFC 7518, 3.2. The message names the setting, never its value."""
    with pytest.raises(InvalidSettings) as caught:
        create_app("testing", JWT_SECRET_KEY=secret)
    assert caught.value.problems == [f"JWT_SECRET_KEY: {fault}"]
    assert not secret or secret not in str(caught.value)


@pytest.mark.parametrize("name", ["FIELD_INDEX_KEY", "PASSWORD_PEPPER"])
def test_a_signing_secret_that_is_also_another_stops_the_start(name: str) -> None:
    """T11, S2: a leak of one key must not allow signing tokens."""
    secret = "0123456789abcdef0123456789abcdef"
    with pytest.raises(InvalidSettings) as caught:
        create_app("testing", JWT_SECRET_KEY=secret, **{name: secret})
    assert caught.value.problems == [f"{name}: must not equal JWT_SECRET_KEY"]


def test_placeholders_are_named_once() -> None:
    """An unedited copy of config.example.py has the same placeholder in each secret."""
    same = "change-me: the output of `openssl rand -base64 32`"
    with pytest.raises(InvalidSettings) as caught:
        create_app("testing", JWT_SECRET_KEY=same, FIELD_INDEX_KEY=same)
    fault = "is the placeholder of config.example.py"
    assert caught.value.problems == [f"JWT_SECRET_KEY: {fault}", f"FIELD_INDEX_KEY: {fault}"]


def test_the_leeway_is_bounded() -> None:
    """T5: at most 30 seconds."""
    with pytest.raises(InvalidSettings) as caught:
        create_app("testing", JWT_LEEWAY=31)
    assert "JWT_LEEWAY" in caught.value.problems[0]
