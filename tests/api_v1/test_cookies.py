"""I8, cookie mode: tokens that scripts cannot read, and a CSRF token for every request that changes something."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from apps import create_app
from tests.support.forge import REFUSAL, claims_of, verdict
from tests.support.people import BIRTH, PASSWORD, bearer, sign_up_body
from tests.support.settings import change_settings

pytestmark = [pytest.mark.stores("sqlite"), pytest.mark.settings(JWT_TOKEN_LOCATION=["headers", "cookies"])]

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
ACCESS, REFRESH, CSRF = "__Host-access_token", "__Host-refresh_token", "__Host-csrf_token"
COOKIES = {"JWT_TOKEN_LOCATION": ["headers", "cookies"]}
CSRF_FAILED = (403, "csrf_failed")


def sign_up(client: FlaskClient, username: str = "alice-liddell") -> TestResponse:
    response = client.post("/api/v1/users/", json=sign_up_body(username))
    assert response.status_code == 200
    return response


def cookie(client: FlaskClient, name: str) -> str:
    found = client.get_cookie(name)
    assert found, f"no cookie {name}"
    return str(found.value)


def proof(client: FlaskClient) -> dict[str, str]:
    """Return the CSRF header that a page adds to a request that changes something."""
    return {"X-CSRF-Token": cookie(client, CSRF)}


def outcome(response: TestResponse) -> tuple[int, str | None]:
    return response.status_code, response.get_json().get("error", {}).get("type")


def set_cookies(response: TestResponse) -> dict[str, set[str]]:
    """Return {name: attributes} of the cookies that a response sets."""
    cookies = {}
    for header in response.headers.getlist("Set-Cookie"):
        first, *attributes = header.split("; ")
        cookies[first.partition("=")[0]] = set(attributes)
    return cookies


def test_every_cookie_is_bound_to_this_host_and_hidden_from_scripts(client: FlaskClient) -> None:
    """I8: `__Host-` requires Secure, Path=/ and no Domain. Only the CSRF token is readable by a page."""
    safe = {"Secure", "Path=/", "SameSite=Strict"}
    expected = {ACCESS: safe | {"HttpOnly"}, REFRESH: safe | {"HttpOnly"}, CSRF: safe}
    login = {"username": "alice-liddell", "password": PASSWORD}
    for response in (sign_up(client), client.post("/api/v1/login", json=login)):
        found = set_cookies(response)
        assert {name: {a for a in found[name] if not a.startswith(EXPIRY)} for name in found} == expected


def max_ages(response: TestResponse) -> dict[str, str]:
    """Return {name: "Max-Age=..."} of the cookies that have one. Werkzeug adds Expires, for old browsers."""
    found = set_cookies(response).items()
    return {name: a for name, attributes in found for a in attributes if a.startswith("Max-Age")}


EXPIRY = ("Max-Age=", "Expires=")


@pytest.mark.parametrize("rotation", [False, True])
@pytest.mark.settings(**COOKIES, SESSION_LIFETIME=450)
def test_a_cookie_lives_as_long_as_its_token(app: Flask, client: FlaskClient, rotation: bool) -> None:
    """I8: and the CSRF token as long as the refresh token, so a restart of the browser ends no session."""
    change_settings(app, JWT_REFRESH_ROTATION=rotation)
    with time_machine.travel(START, tick=False) as time:
        expected = {ACCESS: "Max-Age=120", REFRESH: "Max-Age=300", CSRF: "Max-Age=300"}
        assert max_ages(sign_up(client)) == expected
        time.shift(100)
        refreshed = max_ages(client.post("/api/v1/refresh", headers=proof(client)))
        rest = {ACCESS: "Max-Age=120", CSRF: "Max-Age=200"}
        assert refreshed == (expected if rotation else rest)
        time.shift(180)
        refreshed = max_ages(client.post("/api/v1/refresh", headers=proof(client)))
        until_the_end = {ACCESS: "Max-Age=120", REFRESH: "Max-Age=170", CSRF: "Max-Age=170"}
        assert refreshed == (until_the_end if rotation else {ACCESS: "Max-Age=120", CSRF: "Max-Age=20"})


@pytest.mark.settings(**COOKIES, COOKIE_PERSISTENT=False)
def test_a_cookie_may_end_with_the_browser(client: FlaskClient) -> None:
    """I8."""
    for response in (sign_up(client), client.post("/api/v1/refresh", headers=proof(client))):
        attributes = set().union(*set_cookies(response).values())
        assert not [attribute for attribute in attributes if attribute.startswith(EXPIRY)]


@pytest.mark.parametrize("persistent", [False, True])
def test_a_logout_makes_the_browser_drop_every_cookie(app: Flask, client: FlaskClient, persistent: bool) -> None:
    """I8: with the attributes that `__Host-` requires, or a browser ignores the answer."""
    change_settings(app, COOKIE_PERSISTENT=persistent)
    sign_up(client)
    dropped = set_cookies(client.post("/api/v1/logout", headers=proof(client)))
    assert set(dropped) == {ACCESS, REFRESH, CSRF}
    assert all({"Max-Age=0", "Secure", "Path=/", "SameSite=Strict"} <= attributes for attributes in dropped.values())


def test_no_body_holds_a_token(client: FlaskClient) -> None:
    """I8: a script could read a token in a body and send it away."""
    signed_up = sign_up(client)
    refreshed = client.post("/api/v1/refresh", headers=proof(client))
    assert set(signed_up.get_json()["data"]) == {"id", "username", "age", "mobile"}
    assert refreshed.get_json()["data"] == {}
    for response in (signed_up, refreshed):
        assert not [name for name in (ACCESS, REFRESH) if cookie(client, name) in response.text]


def test_answers_with_a_session_send_the_csrf_token_in_a_header(client: FlaskClient) -> None:
    """I8: for a page of another host, which cannot read the cookie. Others get no such header."""
    signed_up = sign_up(client)
    user_id = signed_up.get_json()["data"]["id"]
    answers = [
        signed_up,
        client.get("/api/v1/users/"),
        client.get(f"/api/v1/users/{user_id}"),
        client.post("/api/v1/refresh", headers=proof(client)),
    ]
    assert [answer.headers.getlist("X-CSRF-Token") for answer in answers] == [[cookie(client, CSRF)]] * 4
    login = client.post("/api/v1/login", json={"username": "alice-liddell", "password": PASSWORD})
    assert login.headers["X-CSRF-Token"] == cookie(client, CSRF) != signed_up.headers["X-CSRF-Token"]
    assert {answer.headers["Cache-Control"] for answer in (*answers, login)} == {"no-store"}
    refused = [client.get("/api/v1/sessions"), client.post("/api/v1/refresh"), client.get("/api/v1/users/x")]
    assert not [answer for answer in refused if "X-CSRF-Token" in answer.headers]


@pytest.mark.settings(JWT_TOKEN_LOCATION=["headers", "cookies"], CORS_ORIGINS=["https://app.example.com"])
def test_a_page_of_a_listed_origin_may_read_the_csrf_token(client: FlaskClient) -> None:
    """I7, I8: and send cookies; a page of another origin may do neither."""
    sign_up(client)
    listed, other = (
        client.get("/api/v1/users/", headers={"Origin": f"https://{host}.example.com"}) for host in ("app", "evil")
    )
    assert "X-CSRF-Token" in listed.headers["Access-Control-Expose-Headers"].split(", ")
    assert listed.headers["Access-Control-Allow-Credentials"] == "true"
    assert not [name for name, _ in other.headers if name.startswith("Access-Control-")]


def test_a_browser_reads_refreshes_and_logs_out(client: FlaskClient) -> None:
    """I8: with its cookies alone, plus the CSRF header on requests that change something."""
    sign_up(client)
    first = cookie(client, ACCESS)
    assert client.get("/api/v1/users/").get_json()["data"]["username"] == "alice-liddell"
    assert client.post("/api/v1/refresh", headers=proof(client)).status_code == 200
    second = cookie(client, ACCESS)
    assert second != first
    assert client.post("/api/v1/logout", json={}, headers=proof(client)).status_code == 200
    assert [client.get_cookie(name) for name in (ACCESS, REFRESH, CSRF)] == [None] * 3
    assert client.get("/api/v1/users/", headers=bearer(second)).status_code == 401


def test_who_ends_the_session_that_they_use_loses_its_cookies(client: FlaskClient) -> None:
    """I8: like a logout. Ending another session keeps them."""
    sign_up(client)
    first = claims_of(cookie(client, ACCESS))["sid"]
    client.post("/api/v1/login", json={"username": "alice-liddell", "password": PASSWORD})
    second = claims_of(cookie(client, ACCESS))["sid"]
    ended = client.delete(f"/api/v1/sessions/{first}", headers=proof(client))
    assert (ended.status_code, set_cookies(ended)) == (200, {})
    assert client.delete(f"/api/v1/sessions/{second}", headers=proof(client)).status_code == 200
    assert [client.get_cookie(name) for name in (ACCESS, REFRESH, CSRF)] == [None] * 3


@pytest.mark.parametrize("kept", [{ACCESS}, {REFRESH}, {ACCESS, REFRESH}], ids=sorted)
@pytest.mark.parametrize("minutes", [0, 3, 6])
def test_a_logout_needs_one_cookie_which_may_have_expired(
    app: Flask, client: FlaskClient, kept: set[str], minutes: int
) -> None:
    """I8, T6: a browser drops the access cookie first. The CSRF token stays required."""
    with time_machine.travel(START, tick=False) as time:
        sign_up(client)
        csrf, refresh = proof(client), cookie(client, REFRESH)
        browser = app.test_client()  # its jar forgets nothing
        for name in kept:
            browser.set_cookie(name, cookie(client, name))
        time.shift(timedelta(minutes=minutes))
        assert outcome(browser.post("/api/v1/logout")) == CSRF_FAILED
        assert outcome(browser.post("/api/v1/logout", headers={"X-CSRF-Token": "x"})) == CSRF_FAILED
        response = browser.post("/api/v1/logout", headers=csrf)
        assert (response.status_code, dropped_by(response)) == (200, {ACCESS, REFRESH, CSRF})
        time.move_to(START)
        assert client.post("/api/v1/refresh", headers=bearer(refresh)).status_code == 401


def dropped_by(response: TestResponse) -> set[str]:
    found = set_cookies(response)
    return {name for name in found if "Max-Age=0" in found[name]}


@pytest.mark.parametrize("bad", ["ended", "forged"])
def test_a_logout_deletes_cookies_that_are_good_for_nothing(app: Flask, client: FlaskClient, bad: str) -> None:
    """I8, T13: a page cannot delete them itself. The answer is that to every bad token."""
    sign_up(client)
    csrf, access = proof(client), cookie(client, ACCESS)
    if bad == "ended":
        client.delete("/api/v1/sessions/" + claims_of(access)["sid"], headers=bearer(access))
    browser = app.test_client()
    browser.set_cookie(ACCESS, access if bad == "ended" else "x" + access)
    for headers in ({}, csrf):
        response = browser.post("/api/v1/logout", headers=headers)
        assert (verdict(response), dropped_by(response)) == (REFUSAL, {ACCESS, REFRESH, CSRF})
        browser.set_cookie(ACCESS, access if bad == "ended" else "x" + access)


def test_a_bad_access_cookie_does_not_hide_a_good_refresh_cookie_from_a_logout(client: FlaskClient) -> None:
    """I8."""
    sign_up(client)
    refresh = cookie(client, REFRESH)
    client.set_cookie(ACCESS, "x")
    assert client.post("/api/v1/logout", headers=proof(client)).status_code == 200
    assert client.post("/api/v1/refresh", headers=bearer(refresh)).status_code == 401


def test_a_logout_that_the_database_prevents_keeps_the_cookies(client: FlaskClient) -> None:
    """I8, V2: they are needed for the next try. A request without cookies deletes none either."""
    sign_up(client)
    cut_off = create_app("testing", DATABASE_URL="postgresql://x@127.0.0.1:1/x", **COOKIES).test_client()
    assert outcome(cut_off.post("/api/v1/logout")) == (401, "missing_token")
    for name in (ACCESS, REFRESH):
        cut_off.set_cookie(name, cookie(client, name))
    response = cut_off.post("/api/v1/logout", headers=proof(client))
    assert (*outcome(response), set_cookies(response)) == (503, "database_unavailable", {})
    assert int(response.headers["Retry-After"]) >= 1


def test_who_deletes_their_account_loses_its_cookies(client: FlaskClient) -> None:
    """I8."""
    user_id = sign_up(client).get_json()["data"]["id"]
    assert client.delete(f"/api/v1/users/{user_id}", headers=proof(client)).status_code == 200
    assert [client.get_cookie(name) for name in (ACCESS, REFRESH, CSRF)] == [None] * 3


@pytest.mark.settings(JWT_TOKEN_LOCATION=["headers", "cookies"], JWT_REFRESH_ROTATION=True)
def test_a_rotation_replaces_the_cookie(client: FlaskClient) -> None:
    """R1: as it replaces the token in a body without cookie mode."""
    sign_up(client)
    first = cookie(client, REFRESH)
    response = client.post("/api/v1/refresh", headers=proof(client))
    assert set(set_cookies(response)) == {ACCESS, REFRESH, CSRF}
    assert claims_of(cookie(client, REFRESH))["gen"] == claims_of(first)["gen"] + 1


def test_without_rotation_the_refresh_cookie_stays(client: FlaskClient) -> None:
    sign_up(client)
    first = cookie(client, REFRESH)
    assert set(set_cookies(client.post("/api/v1/refresh", headers=proof(client)))) == {ACCESS, CSRF}
    assert cookie(client, REFRESH) == first


CHANGES: dict[str, tuple[str, str, Any]] = {
    "change oneself": ("PATCH", "/api/v1/users/{id}", {"info": {"age": 20}}),
    "replace oneself": ("PUT", "/api/v1/users/{id}", sign_up_body("alice-liddell", info={"age": 20, "birth": BIRTH})),
    "delete oneself": ("DELETE", "/api/v1/users/{id}", None),
    "change the password": (
        "POST",
        "/api/v1/password",
        {"current_password": PASSWORD, "new_password": "another horse battery"},
    ),
    "end the other sessions": ("DELETE", "/api/v1/sessions", None),
    "log out": ("POST", "/api/v1/logout", {}),
    "refresh": ("POST", "/api/v1/refresh", None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_needs_the_proof_of_its_own_session(app: Flask, client: FlaskClient, change: str) -> None:
    """I8: a CSRF token that is missing, empty, wrong, of another session or not in the header: 403, no change."""
    method, path, body = CHANGES[change]
    user_id = sign_up(client).get_json()["data"]["id"]
    other = app.test_client()
    sign_up(other, "bob-the-builder")
    own = cookie(client, CSRF)
    forged = {
        "missing": {},
        "empty": {"headers": {"X-CSRF-Token": ""}},
        "wrong": {"headers": {"X-CSRF-Token": own[:-1] + ("0" if own[-1] != "0" else "1")}},
        "not ASCII": {"headers": {"X-CSRF-Token": "é" * 64}},
        "of another session": {"headers": proof(other)},
        "under another name": {"headers": {"X-CSRF": own}},
        "in the query": {"query_string": {"csrf_token": own, "X-CSRF-Token": own}},
    }
    for name, request in forged.items():
        response = client.open(path.format(id=user_id), method=method, json=body, **request)
        assert (name, *outcome(response)) == (name, *CSRF_FAILED)
    assert client.get("/api/v1/users/").get_json()["data"] == {
        "id": user_id,
        "username": "alice-liddell",
        "age": 18,
        "mobile": "13200001111",
        "cache": True,
    }
    assert client.open(path.format(id=user_id), method=method, json=body, headers=proof(client)).status_code == 200


def test_the_proof_dies_with_its_session(client: FlaskClient) -> None:
    """I8: a CSRF token of an earlier session of the same user is refused in the next session."""
    sign_up(client)
    earlier = proof(client)
    client.post("/api/v1/login", json={"username": "alice-liddell", "password": PASSWORD})
    assert outcome(client.delete("/api/v1/sessions", headers=earlier)) == CSRF_FAILED


def test_a_form_of_another_site_cannot_log_a_browser_in(client: FlaskClient) -> None:
    """I8, login CSRF: an HTML form cannot send the login's media type, so it cannot set another account's cookies."""
    sign_up(client)
    body = f'{{"username":"alice-liddell","password":"{PASSWORD}"}}'
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        response = client.post("/api/v1/login", data=body, content_type=media_type)
        assert response.status_code == 415
        assert "Set-Cookie" not in response.headers


def test_a_header_goes_before_a_cookie_and_needs_no_proof(app: Flask, client: FlaskClient) -> None:
    """I8, T10: browsers never add Authorization on their own. Header and cookie are never mixed."""
    sign_up(client)
    own = cookie(client, ACCESS)
    assert client.delete("/api/v1/sessions", headers=bearer(own)).status_code == 200
    assert verdict(client.get("/api/v1/users/", headers=bearer("x" + own)))[0] == 401
    other = app.test_client()
    sign_up(other, "bob-the-builder")
    read = client.get("/api/v1/users/", headers=bearer(cookie(other, ACCESS)))
    assert read.get_json()["data"]["username"] == "bob-the-builder"


OTHER_SCHEMES = [
    "Basic c3RhZ2luZzpzZWNyZXQ=",
    "bAsIc c3RhZ2luZzpzZWNyZXQ=",
    "Basic",
    "",
    " ",
    ",",
    "Negotiate YII=",
    "\t",
]
OTHER_SCHEMES += [
    'Digest username="a", realm="b", nonce="c", uri="/"',
    "Basic YTpi, Digest x",
    "bearers x",
    "Bearer=x",
    "é",
]
BEARER = [
    "Bearer",
    "Bearer ",
    "bearer  ",
    "BEARER null",
    "Bearer\tx",
    "Bearer x y",
    "Basic YTpi, Bearer x",
    "Bearer x,Basic y",
]


@pytest.mark.parametrize("header", OTHER_SCHEMES)
def test_a_header_of_another_scheme_does_not_hide_a_cookie(app: Flask, client: FlaskClient, header: str) -> None:
    """I8, T10: such as the Basic credentials of a staging site, which a browser adds. The CSRF token stays required."""
    sign_up(client)
    other = {"Authorization": header}
    assert client.get("/api/v1/users/", headers=other).status_code == 200
    for path in ("refresh", "logout"):
        assert outcome(client.post(f"/api/v1/{path}", headers=other)) == CSRF_FAILED
        assert client.post(f"/api/v1/{path}", headers=other | proof(client)).status_code == 200
    assert outcome(app.test_client().get("/api/v1/users/", headers=other)) == (401, "invalid_token")


def test_several_headers_of_other_schemes_do_not_hide_a_cookie(client: FlaskClient) -> None:
    """T10: a server joins them with commas."""
    sign_up(client)
    headers = [("Authorization", "Basic YTpi"), ("Authorization", "Negotiate YII=")]
    assert client.get("/api/v1/users/", headers=headers).status_code == 200


@pytest.mark.parametrize("header", BEARER)
def test_a_bearer_header_goes_before_a_cookie_even_if_it_is_bad(client: FlaskClient, header: str) -> None:
    """T10: it is judged as without cookies, also beside another scheme."""
    sign_up(client)
    assert outcome(client.get("/api/v1/users/", headers={"Authorization": header})) == (401, "invalid_token")


@pytest.mark.settings(JWT_TOKEN_LOCATION=["headers"])
@pytest.mark.parametrize("header", OTHER_SCHEMES)
def test_without_cookie_mode_a_header_of_another_scheme_is_refused(client: FlaskClient, header: str) -> None:
    """T10: also if the request has a cookie."""
    client.set_cookie(ACCESS, sign_up(client).get_json()["data"]["access_token"])
    assert outcome(client.get("/api/v1/users/", headers={"Authorization": header})) == (401, "invalid_token")


def test_a_cookie_holds_only_its_own_kind(app: Flask, client: FlaskClient) -> None:
    """T6: an access token is not accepted as a refresh token, or the reverse. No other cookie is read."""
    sign_up(client)
    access, refresh = cookie(client, ACCESS), cookie(client, REFRESH)
    swapped = app.test_client()
    swapped.set_cookie(ACCESS, refresh)
    swapped.set_cookie(REFRESH, access)
    assert swapped.get("/api/v1/users/").status_code == 401
    assert swapped.post("/api/v1/refresh", headers=proof(client)).status_code == 401
    for name in ("access_token", "access_token_cookie", "Host-access_token", "__Secure-access_token"):
        stranger = app.test_client()
        stranger.set_cookie(name, access)
        assert outcome(stranger.get("/api/v1/users/")) == (401, "missing_token")


@pytest.mark.settings(JWT_TOKEN_LOCATION=["headers"])
def test_cookies_are_off_by_default(app: Flask, client: FlaskClient) -> None:
    """I8: no cookie is set, and none is read."""
    response = sign_up(client)
    assert not {"Set-Cookie", "X-CSRF-Token"} & {*response.headers.keys()}
    client.set_cookie(ACCESS, response.get_json()["data"]["access_token"])
    assert outcome(client.get("/api/v1/users/")) == (401, "missing_token")
