"""Sessions: a login opens one, and its end refuses the access token and the refresh token at once."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import argon2
import pytest
import redis
import time_machine
from flask import Flask
from werkzeug.test import TestResponse

from apps.config import settings
from apps.extensions import db
from apps.models import Session
from apps.services import password as passwords
from apps.services import user as users
from apps.services.session import end_sessions
from tests.support import stores
from tests.support.forge import REFUSAL, claims_of, verdict
from tests.support.people import PASSWORD, People, Person, bearer, sign_up_body
from tests.support.settings import change_settings

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
NEW_PASSWORD = "another horse battery"


def session_id(person: Person) -> str:
    sid: str = claims_of(person.access_token)["sid"]
    return sid


def row(app: Flask, person: Person) -> Session:
    with app.app_context():
        session = db.session.get(Session, session_id(person))
        assert session
        return session


def is_over(person: Person) -> bool:
    """Return True if both tokens are refused. Fail if only one of them is."""
    answers = [verdict(person.get("/users/")), verdict(person.refresh())]
    assert answers == [REFUSAL] * 2 or [status for status, _, _ in answers] == [200, 200]
    return answers == [REFUSAL] * 2


def empty_cache(app: Flask) -> None:
    """Delete every entry of the cache."""
    if settings(app).REDIS_URL:
        with redis.Redis.from_url(settings(app).REDIS_URL) as server:
            server.flushdb()
    change_settings(app, CACHE_PREFIX="emptied")


def test_a_login_opens_a_session_of_its_own(app: Flask, people: People) -> None:
    """R8: also on the same device, and whichever token the request carries."""
    first = people.sign_up("alice-liddell")
    second = people.log_in("alice-liddell")
    third = first.post("/login", json={"username": "alice-liddell", "password": PASSWORD}).get_json()["data"]
    sids = {session_id(first), session_id(second), claims_of(third["access_token"])["sid"]}
    assert len(sids) == 3
    assert (row(app, first).user_id, row(app, second).user_id) == (first.id, first.id)


@pytest.mark.stores("sqlite")
def test_both_tokens_of_a_login_are_of_one_session(people: People) -> None:
    """R8."""
    alice = people.sign_up()
    refreshed = alice.refresh().get_json()["data"]["access_token"]
    sids = {claims_of(token)["sid"] for token in (alice.access_token, alice.refresh_token, refreshed)}
    assert sids == {session_id(alice)}


@pytest.mark.settings(JWT_REFRESH_TOKEN_EXPIRES=timedelta(days=30), SESSION_LIFETIME=timedelta(days=90))
def test_a_session_remembers_where_when_and_for_how_long(app: Flask, people: People) -> None:
    """R8: the data by which a person recognises a session."""
    alice = people.sign_up("alice-liddell")
    with time_machine.travel(START, tick=False):
        alice.client.environ_base |= {"REMOTE_ADDR": "2001:db8::7", "HTTP_USER_AGENT": "Firefox/" + "9" * 300}
        session = row(app, people.log_in("alice-liddell"))
    assert (session.address, session.user_agent) == ("2001:db8::7", "Firefox/" + "9" * 247)
    assert session.create_time == session.last_used_time == START
    assert session.expire_time == START + timedelta(days=30)
    assert session.end_time == START + timedelta(days=90)
    assert (session.revoke_time, session.revoke_reason) == (None, None)


def test_a_logout_ends_its_session_at_once_and_no_other(app: Flask, people: People) -> None:
    """R6."""
    alice = people.sign_up("alice-liddell")
    other, bob = people.log_in("alice-liddell"), people.sign_up()
    refreshed = alice.refresh().get_json()["data"]["access_token"]
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=1), tick=False):
        assert alice.post("/logout").get_json()["data"] == {}
        ended = datetime.now(UTC)
    assert is_over(alice)
    assert verdict(alice.get("/users/", token=refreshed)) == REFUSAL
    assert not is_over(other)
    assert not is_over(bob)
    assert (row(app, alice).revoke_time, row(app, alice).revoke_reason) == (ended, "logout")


@pytest.mark.stores("sqlite", "postgresql")
def test_a_logout_survives_an_emptied_cache_and_a_restart(app: Flask, people: People, database_url: str) -> None:
    """R7 (CVE-2026-9802): the row decides, not the cache."""
    alice, bob = people.sign_up(), people.sign_up()
    alice.post("/logout")
    empty_cache(app)
    assert is_over(alice)
    with stores.application(database_url, settings(app).REDIS_URL) as restarted:
        alice.client = bob.client = restarted.test_client()
        assert is_over(alice)
        assert not is_over(bob)


def test_who_is_logged_out_cannot_log_out_again(app: Flask, people: People) -> None:
    """R6: the row keeps its first reason."""
    alice = people.sign_up("alice-liddell")
    alice.post("/logout")
    before = row(app, alice)
    assert verdict(alice.post("/logout")) == REFUSAL
    people.log_in("alice-liddell").patch(f"/users/{alice.id}", json={"password": NEW_PASSWORD})
    after = row(app, alice)
    assert (after.revoke_time, after.revoke_reason) == (before.revoke_time, "logout")


@pytest.mark.stores("sqlite")
def test_of_two_ends_of_a_session_the_first_is_remembered(app: Flask, people: People) -> None:
    """R6: also if both requests were authenticated before either was complete."""
    alice = people.sign_up()
    with app.test_request_context():
        for reason in ("ended_by_user", "logout"):
            end_sessions(alice.id, "this", reason, session_id(alice))
    assert is_over(alice)
    assert row(app, alice).revoke_reason == "ended_by_user"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_new_password_ends_the_other_sessions(app: Flask, people: People, method: str) -> None:
    """R6: of this account, at once. The session of the request goes on."""
    alice = people.sign_up("alice-liddell")
    others, bob = [people.log_in("alice-liddell") for _ in range(2)], people.sign_up()
    body = sign_up_body("alice-liddell", password=NEW_PASSWORD) if method == "PUT" else {"password": NEW_PASSWORD}
    assert alice.request(method, f"/users/{alice.id}", json=body).status_code == 200
    assert [is_over(other) for other in others] == [True, True]
    assert not is_over(alice)
    assert not is_over(bob)
    assert [row(app, other).revoke_reason for other in others] == ["password_changed"] * 2
    assert row(app, alice).revoke_time is None


@pytest.mark.stores("sqlite", "postgresql")
def test_sessions_ended_by_a_new_password_stay_ended_without_the_cache(app: Flask, people: People) -> None:
    """R6, R7."""
    alice = people.sign_up("alice-liddell")
    other = people.log_in("alice-liddell")
    alice.patch(f"/users/{alice.id}", json={"password": NEW_PASSWORD})
    empty_cache(app)
    assert is_over(other)
    assert not is_over(alice)


@pytest.mark.stores("sqlite")
def test_the_old_password_opens_nothing_once_it_is_changed(people: People) -> None:
    """R6."""
    alice = people.sign_up("alice-liddell")
    alice.patch(f"/users/{alice.id}", json={"password": NEW_PASSWORD})
    body = {"username": "alice-liddell", "password": PASSWORD}
    assert alice.client.post("/api/v1/login", json=body).status_code == 401
    assert people.log_in("alice-liddell", NEW_PASSWORD).id == alice.id


@pytest.mark.stores("sqlite")
def test_an_update_with_the_same_password_ends_nothing(people: People) -> None:
    """The tutorial's PUT sends the password each time."""
    alice = people.sign_up("alice-liddell")
    other = people.log_in("alice-liddell")
    assert alice.put(f"/users/{alice.id}", json=sign_up_body("alice-liddell")).status_code == 200
    assert alice.patch(f"/users/{alice.id}", json={"mobile": "13200002222"}).status_code == 200
    assert not is_over(other)


def test_a_deletion_ends_every_session_of_the_account(app: Flask, people: People) -> None:
    """R6, N3: and deletes their rows."""
    alice = people.sign_up("alice-liddell")
    other, bob = people.log_in("alice-liddell"), people.sign_up()
    assert other.delete(f"/users/{alice.id}").status_code == 200
    assert is_over(alice)
    assert is_over(other)
    assert not is_over(bob)
    with app.app_context():
        assert [session.user_id for session in db.session.scalars(db.select(Session))] == [bob.id]


@pytest.fixture
def a_password_that_changes(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Pause the next login between the verification of its password and the opening of its session."""
    is_verified, may_go_on = threading.Event(), threading.Event()
    verify = argon2.PasswordHasher.verify

    def verify_and_wait(*args: str | bytes) -> bool:
        result = verify(*args)
        if not is_verified.is_set():
            is_verified.set()
            may_go_on.wait(10)
        return result

    monkeypatch.setattr(argon2.PasswordHasher, "verify", verify_and_wait)
    yield is_verified, may_go_on
    may_go_on.set()


@pytest.mark.parametrize("act", ["change", "delete"])
def test_a_login_that_was_on_its_way_does_not_outlive_the_password(
    app: Flask, people: People, act: str, a_password_that_changes: tuple[threading.Event, threading.Event]
) -> None:
    """R6: the password was right when it was verified, and is no longer when the session would open."""
    is_verified, may_go_on = a_password_that_changes
    alice = people.sign_up("alice-liddell")
    body = {"username": "alice-liddell", "password": PASSWORD}
    with ThreadPoolExecutor(1) as pool:
        login = pool.submit(lambda: app.test_client().post("/api/v1/login", json=body))
        assert is_verified.wait(10)
        path = f"/users/{alice.id}"
        done = alice.delete(path) if act == "delete" else alice.patch(path, json={"password": NEW_PASSWORD})
        may_go_on.set()
        answer = login.result()
    assert done.status_code == 200
    assert (answer.status_code, answer.get_json()["error"]["type"]) == (401, "wrong_credentials")


@pytest.mark.settings(SESSION_LIFETIME=300)
@pytest.mark.stores("sqlite", "postgresql")
def test_a_session_ends_when_its_time_is_over_whatever_its_tokens_say(people: People) -> None:
    """R5: a token from a refresh in the last minute does not outlive the session."""
    with time_machine.travel(START, tick=False) as clock:
        alice = people.sign_up()
        clock.move_to(START + timedelta(seconds=299))
        alice.access_token = alice.refresh().get_json()["data"]["access_token"]
        assert alice.get("/users/").status_code == 200
        clock.move_to(START + timedelta(seconds=300))
        assert is_over(alice)


@pytest.mark.parametrize(("seconds", "noted"), [(59, 0), (60, 60), (200, 200)])
@pytest.mark.stores("sqlite", "postgresql")
def test_a_refresh_notes_when_the_session_was_used_to_the_minute(
    app: Flask, people: People, seconds: int, noted: int
) -> None:
    """R8: not more often, because each update is a write."""
    with time_machine.travel(START, tick=False) as clock:
        alice = people.sign_up()
        clock.shift(seconds)
        assert alice.refresh().status_code == 200
    assert row(app, alice).last_used_time == START + timedelta(seconds=noted)


def test_a_refresh_that_races_a_logout_leaves_the_session_ended(app: Flask, people: People) -> None:
    """R6, N3: in either order."""
    start = threading.Barrier(8)

    def act(given: tuple[str, str]) -> int:
        start.wait()
        return app.test_client().post(f"/api/v1{given[0]}", headers=bearer(given[1])).status_code

    with time_machine.travel(START, tick=False) as clock, ThreadPoolExecutor(8) as pool:
        persons = [people.sign_up() for _ in range(4)]
        clock.shift(90)  # so that a refresh updates the session
        acts = [("/refresh", one.refresh_token) for one in persons] + [("/logout", one.access_token) for one in persons]
        assert set(pool.map(act, acts)) <= {200, 401}
        assert all(is_over(one) for one in persons)
    assert {row(app, one).revoke_reason for one in persons} == {"logout"}


ENDINGS: dict[str, Callable[[Person, Person], TestResponse]] = {
    "logout everywhere": lambda owner, _: owner.post("/logout", json={"everywhere": True}),
    "end the others": lambda owner, _: owner.delete("/sessions"),
    "end that one": lambda owner, other: owner.delete(f"/sessions/{session_id(other)}"),
    "a new password": lambda owner, _: owner.post(
        "/password", json={"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    ),
    "PATCH of the password": lambda owner, _: owner.patch(f"/users/{owner.id}", json={"password": NEW_PASSWORD}),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.settings(JWT_ACCESS_TOKEN_EXPIRES=60, JWT_REFRESH_TOKEN_EXPIRES=6)
def test_a_session_that_was_not_refreshed_in_time_is_ended_too(people: People, ending: str) -> None:
    """R6: its access token outlives its refresh token, and the session is listed until then."""
    with time_machine.travel(START, tick=False) as time:
        owner = people.sign_up("alice-liddell")
        other = people.log_in("alice-liddell")
        time.shift(7)
        assert other.get("/users/").status_code == 200
        assert len(owner.get("/sessions").get_json()["data"]["data"]) == 2
        assert ENDINGS[ending](owner, other).status_code == 200
        assert verdict(other.get("/users/")) == REFUSAL
        time.shift(70)
        assert people.log_in("alice-liddell", owner.password if "word" not in ending else NEW_PASSWORD)


@pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE", "POST"])
def test_a_session_that_ended_meanwhile_changes_nothing(
    app: Flask, people: People, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """R6: a logout between the check of a token and its change wins."""
    alice = people.sign_up("alice-liddell")
    module = passwords if method == "POST" else users
    wrapped = "delete_user" if method == "DELETE" else "hash_new_password"
    act = getattr(module, wrapped)

    def end_first(*args: Any) -> Any:
        end_sessions(alice.id, "this", "test", session_id(alice))
        return act(*args)

    body = sign_up_body("alice-liddell", password=NEW_PASSWORD)
    bodies = {
        "PATCH": {"password": NEW_PASSWORD},
        "PUT": body,
        "DELETE": None,
        "POST": {"current_password": PASSWORD, "new_password": NEW_PASSWORD},
    }
    path = "/password" if method == "POST" else f"/users/{alice.id}"
    with monkeypatch.context() as patch:
        patch.setattr(module, wrapped, end_first)
        assert verdict(alice.request(method, path, json=bodies[method])) == REFUSAL
    assert people.log_in("alice-liddell").id == alice.id
