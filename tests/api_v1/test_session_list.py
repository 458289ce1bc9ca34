"""Sessions over HTTP: the list, ending one or all of them, and the cap."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from apps import create_app
from apps.config import settings
from apps.extensions import db
from apps.models import Session
from tests.support import stores
from tests.support.documented_client import DocumentedClient
from tests.support.forge import claims_of
from tests.support.people import BIRTH, PASSWORD, People, Person, bearer
from tests.support.settings import change_settings

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOT_FOUND = (404, "session_not_found")
NEW_PASSWORD = "another horse battery"


def told(response: TestResponse) -> tuple[int, str | None]:
    return response.status_code, response.get_json().get("error", {}).get("type")


def sid(person: Person) -> str:
    return str(claims_of(person.access_token)["sid"])


def listed(person: Person) -> list[dict[str, Any]]:
    response = person.get("/sessions")
    assert response.status_code == 200
    sessions: list[dict[str, Any]] = response.get_json()["data"]["data"]
    return sessions


def reason(app: Flask, person: Person) -> str | None:
    with app.app_context():
        return db.session.get_one(Session, sid(person)).revoke_reason


def test_the_list_shows_each_session_as_its_user_knows_it(client: FlaskClient, people: People) -> None:
    """R8: and no other field. The User-Agent may be any text."""
    client.environ_base |= {"HTTP_USER_AGENT": "Näkki/1.0 " + "x" * 300, "REMOTE_ADDR": "2001:db8::7"}
    with time_machine.travel(START, tick=False) as time:
        alice = people.sign_up()
        time.shift(90)
        alice.refresh()
        (session,) = listed(alice)
    assert session == {
        "id": sid(alice),
        "device": ("Näkki/1.0 " + "x" * 300)[:255],
        "address": "2001:db8::7",
        "create_time": "2026-01-01T12:00:00Z",
        "last_used_time": "2026-01-01T12:01:30Z",
        "current": True,
    }


@pytest.mark.settings(JWT_ACCESS_TOKEN_EXPIRES=300)
def test_the_session_used_last_comes_first(people: People) -> None:
    """R8: the current session is marked at any position, and sessions of other users are not listed."""
    with time_machine.travel(START, tick=False) as time:
        people.sign_up("bob-the-builder")
        first, second, third = people.sign_up("alice-liddell"), *(people.log_in("alice-liddell") for _ in range(2))
        for person in (third, first, second):
            time.shift(61)
            person.refresh()
        assert [session["id"] for session in listed(first)] == [sid(second), sid(first), sid(third)]
        assert [session["current"] for session in listed(first)] == [False, True, False]


def renew(person: Person) -> None:
    tokens = person.refresh().get_json()["data"]
    person.access_token, person.refresh_token = tokens["access_token"], tokens["refresh_token"]


@pytest.mark.settings(JWT_REFRESH_ROTATION=True)
def test_what_ended_or_expired_is_not_listed(people: People) -> None:
    """R8."""
    with time_machine.travel(START, tick=False) as time:
        idle, gone, alice = people.sign_up("alice-liddell"), *(people.log_in("alice-liddell") for _ in range(2))
        gone.post("/logout")
        time.shift(250)
        renew(alice)
        assert {session["id"] for session in listed(alice)} == {sid(idle), sid(alice)}
        time.shift(110)
        renew(alice)
        time.shift(
            75
        )  # the idle session's refresh token lived 300 seconds, an access token lives 120, the leeway is 10
        assert {session["id"] for session in listed(alice)} == {sid(alice)}


def test_a_session_that_is_not_ones_own_is_as_one_that_is_not(app: Flask, people: People) -> None:
    """R8, Z1: identical bytes, and the session goes on."""
    alice, bob, old = people.sign_up("alice-liddell"), people.sign_up("bob-the-builder"), people.log_in("alice-liddell")
    old.post("/logout")
    answers = [alice.delete(f"/sessions/{session_id}") for session_id in (sid(bob), "0" * 32, sid(old))]
    assert [told(answer) for answer in answers] == [NOT_FOUND] * 3
    assert len({answer.data for answer in answers}) == 1
    assert bob.get("/users/").status_code == 200
    assert (reason(app, bob), reason(app, old)) == (None, "logout")


@pytest.mark.parametrize("session_id", ["1", "F" * 32, "f" * 31, "f" * 33, "٣" * 32, "f" * 31 + "%00", "..", "*"])
@pytest.mark.stores("sqlite")
def test_what_cannot_be_a_session_is_not_found(people: People, session_id: str) -> None:
    """R8, I1."""
    assert people.sign_up().delete(f"/sessions/{session_id}").status_code == 404


def put_body(person: Person, password: str) -> dict[str, Any]:
    info = {"age": 18, "birth": BIRTH}
    return {"username": person.username, "password": password, "mobile": "13200001111", "info": info}


MINE, OTHER = "the session that acts", "another of the same user"
Act = Callable[[Person, Person], TestResponse]
EVENTS: dict[str, tuple[Act, set[str], str]] = {
    "log out": (lambda mine, _: mine.post("/logout"), {MINE}, "logout"),
    "log out everywhere": (lambda mine, _: mine.post("/logout", json={"everywhere": True}), {MINE, OTHER}, "logout"),
    "end the others": (lambda mine, _: mine.delete("/sessions"), {OTHER}, "ended_by_user"),
    "end another": (lambda mine, other: mine.delete(f"/sessions/{sid(other)}"), {OTHER}, "ended_by_user"),
    "end this one": (lambda mine, _: mine.delete(f"/sessions/{sid(mine)}"), {MINE}, "ended_by_user"),
    "POST a new password": (
        lambda mine, _: mine.post("/password", json={"current_password": PASSWORD, "new_password": NEW_PASSWORD}),
        {OTHER},
        "password_changed",
    ),
    "PUT a new password": (
        lambda mine, _: mine.put(f"/users/{mine.id}", json=put_body(mine, NEW_PASSWORD)),
        {OTHER},
        "password_changed",
    ),
    "PATCH a new password": (
        lambda mine, _: mine.patch(f"/users/{mine.id}", json={"password": NEW_PASSWORD}),
        {OTHER},
        "password_changed",
    ),
    "PUT the same password": (lambda mine, _: mine.put(f"/users/{mine.id}", json=put_body(mine, PASSWORD)), set(), ""),
    "delete the account": (lambda mine, _: mine.delete(f"/users/{mine.id}"), {MINE, OTHER}, ""),
}


@contextmanager
def restarted(app: Flask) -> Iterator[FlaskClient]:
    """Empty the cache, as a flush or a crash does, and start a new application on the same database."""
    app.extensions["cache"] = stores.memory_cache()
    if settings(app).REDIS_URL:
        with redis.Redis.from_url(settings(app).REDIS_URL) as server:
            server.flushdb()
    again = create_app("testing", DATABASE_URL=settings(app).DATABASE_URL, REDIS_URL=settings(app).REDIS_URL)
    again.test_client_class = DocumentedClient
    yield again.test_client()
    with again.app_context():
        db.engine.dispose()


def dead(client: FlaskClient, persons: dict[str, Person]) -> set[str]:
    """Return the names whose access and refresh tokens are refused. Fail if only one of the two is."""
    found = set()
    for name, person in persons.items():
        access = client.get("/api/v1/users/", headers=bearer(person.access_token))
        refresh = client.post("/api/v1/refresh", headers=bearer(person.refresh_token))
        assert told(access) == told(refresh)
        if told(access) == (401, "invalid_token"):
            found.add(name)
    return found


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_ends_what_it_must_at_once_and_for_good(app: Flask, people: People, event: str) -> None:
    """R6, R7, R8: both tokens of a session and no other user's, also after a restart with an empty cache."""
    mine = people.sign_up("alice-liddell")
    persons = {MINE: mine, OTHER: people.log_in("alice-liddell"), "bob": people.sign_up("bob-the-builder")}
    assert dead(people.client, persons) == set()
    act, ended, why = EVENTS[event]
    assert act(mine, persons[OTHER]).status_code == 200
    assert dead(people.client, persons) == ended
    with restarted(app) as client:
        assert dead(client, persons) == ended
    if event != "delete the account":
        assert {reason(app, persons[name]) for name in ended} == ({why} if ended else set())


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "0"}, {"Content-Type": "text/plain"}], ids=str)
@pytest.mark.stores("sqlite", "postgresql")
def test_a_client_that_logs_out_without_a_body_is_logged_out(people: People, headers: dict[str, str]) -> None:
    """R6: as before the route accepted a body."""
    alice = people.sign_up()
    assert told(alice.post("/logout", headers=headers)) == (200, None)
    assert alice.get("/users/").status_code == 401


@pytest.mark.parametrize("everywhere", [False, None])
@pytest.mark.stores("sqlite")
def test_everywhere_is_meant_only_when_it_is_said(people: People, everywhere: bool | None) -> None:
    """R6."""
    alice, other = people.sign_up("alice-liddell"), people.log_in("alice-liddell")
    assert alice.post("/logout", json={"everywhere": everywhere}).status_code == 200
    assert [alice.refresh().status_code, other.refresh().status_code] == [401, 200]


@pytest.mark.parametrize("body", ['{"everywhere":"true"}', '{"everywhere":1}', '{"all":true}', "[]", "{"])
@pytest.mark.stores("sqlite")
def test_a_logout_that_is_not_understood_ends_nothing(people: People, body: str) -> None:
    """I2."""
    alice = people.sign_up()
    assert told(alice.post("/logout", data=body, content_type="application/json")) == (400, "invalid_body")
    assert told(alice.post("/logout", data=body, content_type="text/plain")) == (415, "unsupported_media_type")
    assert alice.refresh().status_code == 200


@pytest.mark.parametrize("rotation", [False, True])
@pytest.mark.settings(SESSIONS_PER_USER=3)
def test_one_login_too_many_ends_the_session_that_was_not_used_for_longest(
    app: Flask, people: People, rotation: bool
) -> None:
    """R11, L3: at once, with the usual response to the login. The audit names the session and the reason."""
    change_settings(app, JWT_REFRESH_ROTATION=rotation)
    with time_machine.travel(START, tick=False) as time:
        first, second, third = people.sign_up("alice-liddell"), *(people.log_in("alice-liddell") for _ in range(2))
        for person in (first, third):
            time.shift(61)
            assert person.refresh().status_code == 200
        fourth = people.log_in("alice-liddell")
        assert [person.get("/users/").status_code for person in (first, second, third)] == [200, 401, 200]
        assert {session["id"] for session in listed(fourth)} == {sid(first), sid(third), sid(fourth)}
        events = fourth.get("/audit").get_json()["data"]["data"]
    assert reason(app, second) == "too_many_sessions"
    ended = [event["detail"] for event in events if event["event"] == "session.end"]
    assert ended == [{"session": sid(second), "reason": "too_many_sessions"}]


@pytest.mark.settings(SESSIONS_PER_USER=1)
@pytest.mark.stores("sqlite", "mariadb")
def test_only_what_lives_counts_against_the_cap(app: Flask, people: People) -> None:
    """R11: sessions of other users and expired sessions do not count."""
    with time_machine.travel(START, tick=False) as time:
        alice, bob = people.sign_up("alice-liddell"), people.sign_up("bob-the-builder")
        time.shift(431)  # the lifetimes of the refresh token and of an access token from its last second
        people.log_in("alice-liddell")
    assert (reason(app, alice), reason(app, bob)) == (None, None)
