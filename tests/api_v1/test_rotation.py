"""Rotation of refresh tokens: one current token per session, a short grace for lost responses, and the end on reuse."""

import base64
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
import time_machine
from flask import Flask
from sqlalchemy import inspect, text
from werkzeug.test import TestResponse

from apps.extensions import db
from apps.models import Session
from tests.support.forge import claims_of
from tests.support.people import PASSWORD, People, Person, bearer
from tests.support.settings import change_settings

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
REFUSED = (401, "invalid_token")
REUSED = "refresh_token_reused"
ROTATING: dict[str, Any] = {"JWT_REFRESH_ROTATION": True, "REFRESH_REUSE": "grace"}


def told(response: TestResponse) -> tuple[int, str | None]:
    return response.status_code, response.get_json().get("error", {}).get("type")


def row(app: Flask, person: Person) -> Session:
    with app.app_context():
        return db.session.get_one(Session, claims_of(person.access_token)["sid"])


def use(client: Any, refresh_token: str) -> TestResponse:
    response: TestResponse = client.post("/api/v1/refresh", headers=bearer(refresh_token))
    return response


def rotate(person: Person) -> str:
    """Refresh like a client that stores the new tokens. Return the retired token."""
    response = person.refresh()
    assert response.status_code == 200, response.text
    retired, data = person.refresh_token, response.get_json()["data"]
    person.access_token, person.refresh_token = data["access_token"], data["refresh_token"]
    return retired


@pytest.mark.settings(**ROTATING)
def test_each_refresh_gives_the_next_of_the_family(app: Flask, people: People) -> None:
    """R1, R8: the session stays the same."""
    alice = people.sign_up()
    family = [rotate(alice) for _ in range(3)] + [alice.refresh_token]
    assert len(set(family)) == 4
    assert [claims_of(token)["gen"] for token in family] == [0, 1, 2, 3]
    assert len({claims_of(token)["sid"] for token in family}) == 1
    assert alice.get("/users/").status_code == 200
    assert row(app, alice).refresh_generation == 3


@pytest.mark.settings(**ROTATING)
@pytest.mark.parametrize("member", range(3))
def test_a_retired_token_used_after_the_grace_ends_its_session_alone(app: Flask, people: People, member: int) -> None:
    """R1: for any member of the family (RFC 9700, 4.14.2)."""
    with time_machine.travel(START) as time:
        other, alice = people.sign_up("alice-liddell"), people.log_in("alice-liddell")
        bob = people.sign_up("bob-the-builder")
        family = [rotate(alice) for _ in range(3)]
        time.shift(11)
        assert told(use(people.client, family[member])) == REFUSED
        assert told(alice.get("/users/")) == told(alice.refresh()) == REFUSED
        assert [person.refresh().status_code for person in (other, bob)] == [200, 200]
        ended = row(app, alice)
    assert ended.revoke_reason == REUSED
    assert ended.revoke_time is not None
    assert row(app, other).revoke_reason is None


@pytest.mark.settings(**ROTATING)
def test_the_grace_is_for_the_parent_of_the_current_token_only(app: Flask, people: People) -> None:
    """R1, R3: a grandparent ends the session even within the grace."""
    alice = people.sign_up()
    grandparent, _ = rotate(alice), rotate(alice)
    assert told(use(people.client, grandparent)) == told(alice.refresh()) == REFUSED
    assert row(app, alice).revoke_reason == REUSED


@pytest.mark.settings(**ROTATING, REFRESH_REUSE_GRACE=0)
@pytest.mark.stores("sqlite", "postgresql")
def test_a_session_that_ended_stays_ended_for_its_first_reason(app: Flask, people: People) -> None:
    """R1: a later reuse does not overwrite the reason."""
    alice = people.sign_up()
    retired = rotate(alice)
    alice.post("/logout")
    assert told(use(people.client, retired)) == REFUSED
    assert row(app, alice).revoke_reason == "logout"


@pytest.mark.settings(**ROTATING, REFRESH_REUSE_GRACE=0)
def test_reuse_is_audited_once(app: Flask, people: People) -> None:
    """R1, L3: the refusal commits its changes."""
    alice = people.sign_up("alice-liddell")
    retired = rotate(alice)
    for _ in range(2):
        assert told(use(people.client, retired)) == REFUSED
    events = people.log_in("alice-liddell").get("/audit").get_json()["data"]["data"]
    reuses = [event for event in events if event["event"] == "refresh_token.reuse"]
    assert [event["outcome"] for event in reuses] == ["failure"]


def at_once(app: Flask, refresh_token: str, count: int) -> list[TestResponse]:
    """Send one token from `count` clients at the same time."""
    barrier = Barrier(count)

    def act(_: int) -> TestResponse:
        client = app.test_client()
        barrier.wait()
        return use(client, refresh_token)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(act, range(count)))


@pytest.mark.settings(**ROTATING, REFRESH_REUSE_GRACE=10)
def test_twenty_parallel_refreshes_of_one_token_advance_the_family_once(app: Flask, people: People) -> None:
    """R2: all get the same child, in ten rounds, each with the previous child."""
    alice = people.sign_up()
    for generation in range(1, 11):
        answers = at_once(app, alice.refresh_token, 20)
        assert {answer.status_code for answer in answers} == {200}
        children = {answer.get_json()["data"]["refresh_token"] for answer in answers}
        assert len(children) == 1
        assert row(app, alice).refresh_generation == generation
        alice.refresh_token = children.pop()
    assert {
        alice.get("/users/", token=answer.get_json()["data"]["access_token"]).status_code for answer in answers
    } == {200}


@pytest.mark.settings(**ROTATING, REFRESH_REUSE_GRACE=0)
def test_of_parallel_refreshes_without_grace_no_child_lives_on(app: Flask, people: People) -> None:
    """R2, R3: two parties hold the token, so the child of the first one is refused as well."""
    alice = people.sign_up()
    answers = at_once(app, alice.refresh_token, 8)
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7
    child = next(answer for answer in answers if answer.status_code == 200).get_json()["data"]
    assert told(use(people.client, child["refresh_token"])) == REFUSED
    assert told(alice.get("/users/", token=child["access_token"])) == REFUSED
    assert (row(app, alice).refresh_generation, row(app, alice).revoke_reason) == (1, REUSED)


@pytest.mark.settings(**ROTATING, REFRESH_REUSE_GRACE=0)
def test_without_grace_the_second_use_ends_the_session(app: Flask, people: People) -> None:
    """R3."""
    alice = people.sign_up()
    retired = rotate(alice)
    assert told(use(people.client, retired)) == told(alice.refresh()) == REFUSED
    assert row(app, alice).revoke_reason == REUSED


@pytest.mark.settings(**ROTATING, REFRESH_REUSE_GRACE=2)
@pytest.mark.parametrize("seconds", [0, 1.99, 2, 60])
def test_the_grace_gives_the_identical_child_and_then_ends(app: Flask, people: People, seconds: float) -> None:
    """R3: identical bytes, although only the row is stored. The client may use either response."""
    with time_machine.travel(START, tick=False) as time:
        alice = people.sign_up()
        retired = rotate(alice)
        time.shift(seconds)
        again = use(people.client, retired)
        if seconds < 2:
            assert again.get_json()["data"]["refresh_token"] == alice.refresh_token
            assert alice.refresh().status_code == 200
        else:
            assert told(again) == told(alice.refresh()) == REFUSED
        assert row(app, alice).revoke_reason == (None if seconds < 2 else REUSED)


@pytest.mark.settings(**ROTATING, REFRESH_REUSE_GRACE=2)
@pytest.mark.stores("sqlite", "postgresql")
def test_a_retry_does_not_prolong_the_grace(people: People) -> None:
    """R3: the grace counts from the rotation."""
    with time_machine.travel(START, tick=False) as time:
        alice = people.sign_up()
        retired = rotate(alice)
        time.shift(1.5)
        assert use(people.client, retired).status_code == 200
        time.shift(1)
        assert told(use(people.client, retired)) == REFUSED


@pytest.mark.settings(**ROTATING, REFRESH_REUSE_GRACE=2, JWT_LEEWAY=30)
@pytest.mark.stores("sqlite")
@pytest.mark.parametrize("seconds", [1, 5])
def test_a_clock_that_steps_back_does_not_prolong_the_grace(people: People, seconds: int) -> None:
    """R3, V7: a machine whose clock is behind does not shorten the grace either."""
    with time_machine.travel(START, tick=False) as time:
        alice = people.sign_up()
        retired = rotate(alice)
        time.shift(-seconds)
        assert use(people.client, retired).status_code == (200 if seconds < 2 else 401)


@pytest.mark.settings(**ROTATING)
@pytest.mark.stores("sqlite", "postgresql")
def test_a_retired_token_stays_retired_when_rotation_is_turned_off(app: Flask, people: People) -> None:
    """R1: a changed setting revives no token."""
    alice = people.sign_up()
    retired = rotate(alice)
    change_settings(app, JWT_REFRESH_ROTATION=False)
    assert told(use(people.client, retired)) == REFUSED
    assert list(alice.refresh().get_json()["data"]) == ["access_token"]


def stored_texts(app: Flask) -> Iterator[str]:
    """Yield every value of every table as text. Bytes come in each form in which text could hold a token."""
    with app.app_context():
        for table in inspect(db.engine).get_table_names():
            for values in db.session.execute(text(f"SELECT * FROM {table}")):
                for value in values:
                    if isinstance(value, (bytes, bytearray, memoryview)):
                        raw = bytes(value)
                        yield from (raw.decode("latin-1"), raw.hex(), base64.urlsafe_b64encode(raw).decode())
                    else:
                        yield str(value)


@pytest.mark.settings(**ROTATING)
@pytest.mark.stores("sqlite", "postgresql")
def test_nothing_in_a_dump_of_the_database_is_a_token_or_part_of_one(app: Flask, people: People) -> None:
    """R4: the database does not hold the secret that makes the next refresh token."""
    alice = people.sign_up("alice-liddell")
    tokens = [alice.access_token, rotate(alice), rotate(alice), alice.access_token, alice.refresh_token]
    alice = people.log_in("alice-liddell")
    alice.post("/password", json={"current_password": PASSWORD, "new_password": PASSWORD + "!"})
    dump = set(stored_texts(app))
    assert claims_of(alice.access_token)["sid"] in dump
    for token in [*tokens, alice.access_token, alice.refresh_token]:
        assert not any(part in stored for part in token.split(".")[1:] for stored in dump)
    words = {word for stored in dump for word in [stored, *re.findall(r"[\w.=-]{16,}", stored)]}
    for word in (word for word in words if word.isascii() and word.isprintable() and word.strip()):
        assert alice.get("/users/", token=word).status_code == 401
        assert use(people.client, word).status_code == 401


@pytest.mark.parametrize("rotation", [False, True])
@pytest.mark.parametrize("idle", [299, 300])
@pytest.mark.settings(JWT_LEEWAY=0)
@pytest.mark.stores("sqlite", "postgresql")
def test_a_session_that_is_not_refreshed_ends(app: Flask, people: People, rotation: bool, idle: int) -> None:
    """R5: reading does not count as use."""
    change_settings(app, JWT_REFRESH_ROTATION=rotation)
    with time_machine.travel(START, tick=False) as time:
        alice = people.sign_up()
        time.shift(100)
        assert alice.get("/users/").status_code == 200
        time.shift(idle - 100)
        assert alice.refresh().status_code == (200 if idle < 300 else 401)


@pytest.mark.settings(**ROTATING, SESSION_LIFETIME=600)
def test_a_session_that_is_refreshed_in_time_goes_on_until_its_absolute_end(app: Flask, people: People) -> None:
    """R5: longer than one refresh token, but never longer than SESSION_LIFETIME, including the leeway."""
    with time_machine.travel(START, tick=False) as time:
        alice = people.sign_up()
        for seconds in (290, 290, 19):
            time.shift(seconds)
            rotate(alice)
        end = (START + timedelta(seconds=600)).timestamp()
        assert claims_of(alice.access_token)["exp"] == claims_of(alice.refresh_token)["exp"] == end
        assert alice.get("/users/").status_code == 200
        time.shift(1)
        assert told(alice.get("/users/")) == told(alice.refresh()) == REFUSED
    assert row(app, alice).end_time == START + timedelta(seconds=600)
