"""POST /password: it requires the current password and ends every other session."""

import io
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from typing import Any

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from apps.extensions import db
from apps.models import Session, User
from apps.security import password_hash
from tests.support.forge import claims_of
from tests.support.people import PASSWORD, People, Person

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
NEW = "another horse battery"
WRONG = (401, "wrong_credentials")
WAIT = (429, "too_many_requests")


def told(response: TestResponse) -> tuple[int, str | None]:
    return response.status_code, response.get_json().get("error", {}).get("type")


def change(person: Person, current: Any = PASSWORD, new: Any = NEW, **more: Any) -> TestResponse:
    return person.post("/password", json={"current_password": current, "new_password": new} | more)


def log_in(client: FlaskClient, username: str, password: str) -> TestResponse:
    return client.post("/api/v1/login", json={"username": username, "password": password})


def hash_of(app: Flask, person: Person) -> str:
    with app.app_context():
        return db.session.get_one(User, person.id).password_hash


def test_who_knows_the_current_password_sets_a_new_one(app: Flask, people: People) -> None:
    """P6, R6: the session of the request goes on. The other one, possibly a thief's, ends."""
    alice, other = people.sign_up("alice-liddell"), people.log_in("alice-liddell")
    response = change(alice)
    assert (told(response), response.get_json()["data"]) == ((200, None), {})
    assert [alice.refresh().status_code, other.refresh().status_code] == [200, 401]
    assert [told(log_in(people.client, "alice-liddell", word)) for word in (PASSWORD, NEW)] == [WRONG, (200, None)]
    with app.app_context():
        assert db.session.get_one(Session, claims_of(other.access_token)["sid"]).revoke_reason == "password_changed"


@pytest.mark.parametrize("current", ["a wrong password", PASSWORD + " ", PASSWORD.upper(), NEW, "x"])
@pytest.mark.stores("sqlite")
def test_who_does_not_know_it_changes_nothing(app: Flask, people: People, current: str) -> None:
    """P6: and no session ends."""
    alice, other = people.sign_up("alice-liddell"), people.log_in("alice-liddell")
    before = hash_of(app, alice)
    assert told(change(alice, current)) == WRONG
    assert hash_of(app, alice) == before
    assert [alice.refresh().status_code, other.refresh().status_code] == [200, 200]


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=3)
def test_no_more_than_three_wrong_current_passwords_are_looked_at(people: People) -> None:
    """B2: after that, the right one must wait as well. A login need not."""
    alice = people.sign_up("alice-liddell")
    for number in range(3):
        assert told(change(alice, f"guess number {number}")) == WRONG
    refused = change(alice)
    assert told(refused) == WAIT
    assert 1 <= int(refused.headers["Retry-After"]) <= 2
    assert told(log_in(people.client, "alice-liddell", PASSWORD)) == (200, None)


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=3)
def test_strangers_who_guess_do_not_keep_the_owner_from_a_new_password(people: People) -> None:
    """B3: failed logins from outside do not delay a change from a session."""
    alice = people.sign_up("alice-liddell")
    assert [told(log_in(people.client, "Alice-Liddell", "wrong")) for _ in range(4)] == [*[WRONG] * 3, WAIT]
    assert told(change(alice)) == (200, None)


@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=3)
def test_a_right_current_password_starts_the_count_anew(people: People) -> None:
    """B2: for logins as well."""
    with time_machine.travel(START, tick=False) as time:
        alice = people.sign_up("alice-liddell")
        assert [told(change(alice, "wrong")) for _ in range(3)] == [WRONG] * 3
        time.shift(2)
        assert told(change(alice)) == (200, None)
        assert [told(log_in(people.client, "alice-liddell", "wrong")) for _ in range(3)] == [WRONG] * 3


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=3)
@pytest.mark.stores("sqlite", "mariadb")
def test_parallel_guesses_are_no_more_than_those_in_a_row(app: Flask, people: People) -> None:
    """B1, B2: three guesses are answered, however many are sent at once."""
    alice = people.sign_up("alice-liddell")
    barrier = Barrier(12)

    def guess(number: int) -> int:
        mine = Person(app.test_client(), alice.id, alice.username, alice.access_token, alice.refresh_token)
        barrier.wait()
        return change(mine, f"guess number {number}").status_code

    with ThreadPoolExecutor(12) as pool:
        statuses = sorted(pool.map(guess, range(12)))
    assert statuses == [401] * 3 + [429] * 9


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=1)
@pytest.mark.stores("sqlite")
def test_a_guessed_account_is_still_used_by_its_owner(people: People) -> None:
    """B3: only requests that verify a password wait. Reads, refreshes and other changes do not."""
    alice = people.sign_up("alice-liddell")
    change(alice, "wrong")
    assert told(change(alice)) == WAIT
    update = alice.patch(f"/users/{alice.id}", json={"info": {"age": 44}})
    assert {response.status_code for response in (alice.get("/users/"), alice.refresh(), update)} == {200}


@pytest.mark.settings(PASSWORD_BLOCKLIST=True)
@pytest.mark.parametrize("new", ["password123", "my alice-liddell!"])
@pytest.mark.stores("sqlite")
def test_a_new_password_that_is_easy_to_guess_is_refused(app: Flask, people: People, new: str) -> None:
    """P5: like at sign-up, if it is in a leak or contains the username."""
    alice = people.sign_up("alice-liddell")
    before = hash_of(app, alice)
    assert told(change(alice, new=new)) == (400, "weak_password")
    assert hash_of(app, alice) == before


BODIES: dict[str, dict[str, Any]] = {
    "short": {"new": "1234567"},
    "long": {"new": "x" * 129},
    "empty": {"new": ""},
    "null": {"new": None},
    "a number": {"new": 12345678},
    "a list": {"new": [NEW]},
    "NUL": {"new": NEW + "\0"},
    "no current one": {"current": ""},
    "a current object": {"current": {"a": 1}},
    "a field too many": {"user_id": 1},
    "a role": {"role": "admin"},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=1)
@pytest.mark.stores("sqlite")
def test_a_body_of_another_shape_is_refused_and_is_no_guess(people: People, body: dict[str, Any]) -> None:
    """I2, Z2: the right password passes afterwards."""
    alice = people.sign_up()
    response = change(alice, **body)
    assert told(response) == (400, "invalid_body")
    assert response.get_json()["message"].startswith("change password fail:{")
    assert told(change(alice)) == (200, None)


@pytest.mark.stores("sqlite")
def test_only_an_access_token_changes_a_password(people: People) -> None:
    """T6."""
    alice = people.sign_up()
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert told(alice.post("/password", token=alice.refresh_token, json=body)) == (401, "invalid_token")
    assert told(people.client.post("/api/v1/password", json=body)) == (401, "missing_token")


@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=100)
def test_of_two_new_passwords_at_once_one_is_set(app: Flask, people: People) -> None:
    """P6, R6: the session of the slower request has ended, whichever it is."""
    pair = [people.sign_up("alice-liddell"), people.log_in("alice-liddell")]
    barrier = Barrier(2)

    def act(index: int) -> int:
        person = pair[index]
        mine = Person(app.test_client(), person.id, person.username, person.access_token, person.refresh_token)
        barrier.wait()
        return change(mine, new=f"{NEW} {index}").status_code

    with ThreadPoolExecutor(2) as pool:
        statuses = list(pool.map(act, range(2)))
    assert sorted(statuses) == [200, 401]
    winner = statuses.index(200)
    assert [pair[winner].refresh().status_code, pair[1 - winner].refresh().status_code] == [200, 401]
    assert told(log_in(people.client, "alice-liddell", f"{NEW} {winner}")) == (200, None)


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
def test_a_password_that_changed_since_it_was_verified_is_no_current_one(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P6: two requests of one session, so neither ends the other. The second comes while the first hashes."""
    alice, make = people.sign_up("alice-liddell"), password_hash.hash_password

    def make_slowly(password: str) -> str:
        monkeypatch.setattr(password_hash, "hash_password", make)
        with ThreadPoolExecutor(1) as pool:
            assert told(pool.submit(change, alice, new=NEW + " of the second").result()) == (200, None)
        return make(password)

    monkeypatch.setattr(password_hash, "hash_password", make_slowly)
    assert told(change(alice)) == WRONG
    assert told(log_in(people.client, "alice-liddell", NEW + " of the second")) == (200, None)


@pytest.mark.stores("sqlite")
def test_neither_password_is_in_the_audit_or_the_logs(people: People, output: io.StringIO) -> None:
    """L1: for a failed and for a successful change."""
    alice = people.sign_up("alice-liddell", password="canary-of-old")
    change(alice, "canary-of-wrong", "canary-of-new")
    assert told(change(alice, "canary-of-old", "canary-of-new")) == (200, None)
    events = alice.get("/audit").get_json()["data"]["data"]
    assert [event["event"] for event in events] == ["password.change", "password.verify", "user.sign_up"]
    assert '"event":"password.change"' in output.getvalue()
    assert "canary" not in str(events) + output.getvalue()
