"""Fresh tokens: changes that could take over an account require an access token from a login."""

from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from apps.extensions import db
from apps.models import User
from tests.support.forge import claims_of
from tests.support.people import BIRTH, PASSWORD, People, Person
from tests.support.settings import change_settings

MOBILE = "13200001111"
NEW_PASSWORD = "another horse battery"
REFUSED = (401, "fresh_token_required")


def told(response: TestResponse) -> tuple[int, str | None]:
    return response.status_code, response.get_json().get("error", {}).get("type")


def whole(person: Person, **changes: Any) -> dict[str, Any]:
    body = {"username": person.username, "password": PASSWORD, "mobile": MOBILE, "info": {"age": 18, "birth": BIRTH}}
    return body | changes


def make_stale(person: Person) -> Person:
    """Replace the person's access token by one from a refresh."""
    data = person.refresh().get_json()["data"]
    person.access_token, person.refresh_token = data["access_token"], data.get("refresh_token", person.refresh_token)
    return person


def stored(app: Flask, person: Person) -> User | None:
    with app.app_context():
        return db.session.get(User, person.id)


# Requests that require a fresh token: the method, the path, and the changes of the body.
GUARDED: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "delete the account": ("DELETE", "/users/{id}", None),
    "POST a password": ("POST", "/password", {"current_password": PASSWORD, "new_password": NEW_PASSWORD}),
    "PUT a password": ("PUT", "/users/{id}", {"password": NEW_PASSWORD}),
    "PUT a mobile": ("PUT", "/users/{id}", {"mobile": "13200002222"}),
    "PUT both": ("PUT", "/users/{id}", {"password": NEW_PASSWORD, "mobile": "13200002222"}),
    "PATCH a password": ("PATCH", "/users/{id}", {"password": NEW_PASSWORD}),
    "PATCH a mobile": ("PATCH", "/users/{id}", {"mobile": "13200002222"}),
    "PATCH a mobile and an age": ("PATCH", "/users/{id}", {"mobile": "13200002222", "info": {"age": 44}}),
}
# Requests that do not: the password and the mobile number stay unchanged.
FREE: dict[str, tuple[str, dict[str, Any]]] = {
    "PUT the same": ("PUT", {}),
    "PUT a name": ("PUT", {"username": "alice-pleasance"}),
    "PUT an age": ("PUT", {"info": {"age": 44, "birth": BIRTH}}),
    "PATCH nothing": ("PATCH", {}),
    "PATCH an age": ("PATCH", {"info": {"age": 44}}),
    "PATCH a name": ("PATCH", {"username": "alice-pleasance"}),
    "PATCH the same password": ("PATCH", {"password": PASSWORD}),
    "PATCH the same mobile": ("PATCH", {"mobile": MOBILE}),
    "PATCH null": ("PATCH", {"password": None, "mobile": None}),
}


def do(person: Person, act: str) -> TestResponse:
    method, path, body = GUARDED[act]
    sent = whole(person, **body) if method == "PUT" and body else body
    return person.request(method, path.format(id=person.id), **({} if sent is None else {"json": sent}))


@pytest.mark.parametrize("rotation", [False, True])
@pytest.mark.parametrize("act", GUARDED)
@pytest.mark.stores("sqlite", "mariadb")
def test_a_stale_token_is_asked_to_log_in_again(app: Flask, people: People, act: str, rotation: bool) -> None:
    """R9, P6: RFC 9470, 3. Nothing changes, and the token stays valid for other requests."""
    change_settings(app, JWT_REFRESH_ROTATION=rotation)
    alice = make_stale(people.sign_up("alice-liddell"))
    before = stored(app, alice)
    response = do(alice, act)
    assert told(response) == REFUSED
    assert response.headers["WWW-Authenticate"] == 'Bearer error="insufficient_user_authentication"'
    after = stored(app, alice)
    assert before
    assert after
    assert (after.version, after.password_hash) == (before.version, before.password_hash)
    assert alice.get("/users/").get_json()["data"]["mobile"] == MOBILE


@pytest.mark.parametrize("way", ["sign-up", "login", "login again"])
@pytest.mark.parametrize("act", GUARDED)
@pytest.mark.stores("sqlite", "mariadb")
def test_a_token_straight_from_a_login_passes(app: Flask, people: People, act: str, way: str) -> None:
    """R9: a refresh of the same session does not make the login's token stale."""
    alice = people.sign_up("alice-liddell")
    if way != "sign-up":
        alice = people.log_in("alice-liddell")
    if way == "login again":
        make_stale(alice)
        alice = people.log_in("alice-liddell")
    assert alice.refresh().status_code == 200
    before = stored(app, alice)
    assert told(do(alice, act)) == (200, None)
    after = stored(app, alice)
    assert after is None or (before and after.version > before.version)


@pytest.mark.parametrize("act", FREE)
@pytest.mark.stores("sqlite", "mariadb")
def test_a_stale_token_may_change_all_but_password_and_mobile(people: People, act: str) -> None:
    """R9: the tutorial's client works. It sends the whole user with a refreshed token."""
    alice = make_stale(people.sign_up("alice-liddell"))
    method, body = FREE[act]
    sent = whole(alice, **body) if method == "PUT" else body
    assert told(alice.request(method, f"/users/{alice.id}", json=sent)) == (200, None)
    data = alice.get("/users/").get_json()["data"]
    assert data["username"] == body.get("username", "alice-liddell")
    assert data["age"] == (body.get("info") or {"age": 18})["age"]


@pytest.mark.parametrize("rotation", [False, True])
@pytest.mark.stores("sqlite")
def test_no_chain_of_refreshes_makes_a_token_fresh(app: Flask, people: People, rotation: bool) -> None:
    """R9: a refresh can only lower the assurance."""
    change_settings(app, JWT_REFRESH_ROTATION=rotation)
    alice = people.sign_up()
    is_fresh = []
    for _ in range(3):
        is_fresh.append(claims_of(alice.access_token)["fresh"])
        make_stale(alice)
    assert is_fresh == [True, False, False]


@pytest.mark.stores("sqlite")
def test_an_admin_too_needs_a_fresh_token(app: Flask, people: People) -> None:
    """R9: to delete another account, or to change its mobile number."""
    alice, admin = people.sign_up("alice-liddell"), make_stale(people.admin())
    assert told(admin.delete(f"/users/{alice.id}")) == REFUSED
    assert told(admin.patch(f"/users/{alice.id}", json={"mobile": "13200002222"})) == REFUSED
    assert alice.get("/users/").get_json()["data"]["mobile"] == MOBILE


@pytest.mark.stores("sqlite")
def test_a_stale_token_of_another_learns_nothing(people: People) -> None:
    """Z1: the permission is checked before the freshness."""
    alice, bob = people.sign_up("alice-liddell"), make_stale(people.sign_up("bob-the-builder"))
    answers = [bob.delete(f"/users/{user_id}") for user_id in (alice.id, alice.id + 1000)]
    assert [told(answer) for answer in answers] == [(403, "forbidden")] * 2


def guess(person: Person, method: str, password: str) -> TestResponse:
    body = whole(person, password=password) if method == "PUT" else {"password": password}
    return person.request(method, f"/users/{person.id}", json=body)


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=3)
def test_a_stale_token_does_not_guess_the_password_uncounted(people: People, method: str) -> None:
    """B2: the response tells a right password from a wrong one, so it counts like a login."""
    alice = make_stale(people.sign_up("alice-liddell"))
    for number in range(3):
        assert told(guess(alice, method, f"guess number {number}")) == REFUSED
    assert told(guess(alice, method, PASSWORD)) == (429, "too_many_requests")


@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=3)
@pytest.mark.stores("sqlite", "postgresql")
def test_the_right_password_in_an_update_starts_the_count_anew(people: People) -> None:
    """B2: a client that sends the whole user repeatedly is not guessing."""
    alice = make_stale(people.sign_up("alice-liddell"))
    for _ in range(5):
        assert told(guess(alice, "PUT", PASSWORD)) == (200, None)


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=3)
@pytest.mark.stores("sqlite")
def test_an_admin_does_not_guess_anothers_password_uncounted(people: People) -> None:
    """B2, Z5: an admin may not set it, but the response would tell a right guess."""
    alice, admin = people.sign_up("alice-liddell"), people.admin()
    for number in range(3):
        body = {"password": f"guess number {number}"}
        assert told(admin.patch(f"/users/{alice.id}", json=body)) == (403, "forbidden")
    assert told(admin.patch(f"/users/{alice.id}", json={"password": PASSWORD})) == (429, "too_many_requests")
