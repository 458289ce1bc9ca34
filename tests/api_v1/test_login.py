"""Login: one response for every refused login, and growing delays against guessing."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import argon2
import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from apps.extensions import db
from apps.models import LoginAttempt
from apps.services.login_attempt import login_digest
from apps.utils.username import lookup_key
from tests.support import stores
from tests.support.people import PASSWORD, People
from tests.support.settings import change_settings

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
WRONG = "a wrong password"
ALLOWANCE = 5
NOBODY_LISTENS = "redis://127.0.0.1:1/0"


def log_in(client: FlaskClient, username: str, password: str = WRONG) -> TestResponse:
    return client.post("/api/v1/login", json={"username": username, "password": password})


def told(response: TestResponse) -> tuple[int, str | None]:
    return response.status_code, response.get_json().get("error", {}).get("type")


REFUSED = (401, "wrong_credentials")
BRAKED = (429, "too_many_requests")
OVERLOADED = (503, "overloaded")


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every password that was verified against a hash."""
    seen: list[bytes] = []
    verify = argon2.PasswordHasher.verify

    def count(self: argon2.PasswordHasher, stored: str, password: bytes) -> bool:
        seen.append(password)
        return verify(self, stored, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", count)
    return seen


def failures(app: Flask, username: str) -> int:
    """Return the number of failed logins counted for a name."""
    with app.app_context():
        attempts = db.session.get(LoginAttempt, login_digest(lookup_key(username)))
        return attempts.failed_count if attempts else 0


NOT_HERE = {
    "unknown": "nobody-of-note",
    "too short": "nobody",
    "spaces": "no body at all",
    "one space": " ",
    "mixed scripts": "аlice-liddell",
    "SQL": "' OR '1'='1' --",
    "emoji": "🐇" * 10,
    "NUL's neighbour": "\x01" * 10,
    "the longest": "n" * 64,
    "no letter": "\u200b" * 8,
}


@pytest.mark.parametrize("username", NOT_HERE.values(), ids=NOT_HERE)
@pytest.mark.stores("sqlite", "postgresql")
def test_who_is_not_here_is_answered_as_who_has_it_wrong(people: People, username: str, verified: list[bytes]) -> None:
    """E1: equal status, body, header names and number of hashes, and so equal time."""
    people.sign_up("alice-liddell")
    wrong, unknown = (log_in(people.client, name) for name in ("alice-liddell", username))
    assert told(wrong) == told(unknown) == REFUSED
    assert wrong.data == unknown.data
    assert sorted(wrong.headers.keys()) == sorted(unknown.headers.keys())
    assert wrong.headers["WWW-Authenticate"] == unknown.headers["WWW-Authenticate"] == "Bearer"
    assert verified == [WRONG.encode()] * 2


def test_parallel_guesses_are_no_more_than_those_in_a_row(app: Flask, people: People, verified: list[bytes]) -> None:
    """B1 (CVE-2024-4629): an attempt is counted before its password is verified."""
    people.sign_up("alice-liddell")
    start = threading.Barrier(40)

    def guess(_: int) -> TestResponse:
        start.wait()
        return log_in(app.test_client(), "alice-liddell")

    change_settings(app, FAILED_LOGIN_ALLOWANCE=ALLOWANCE)
    with time_machine.travel(datetime.now(UTC), tick=False), ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(guess, range(40)))
    assert Counter(map(told, answers)) == {REFUSED: ALLOWANCE, BRAKED: 40 - ALLOWANCE}
    assert len(verified) == ALLOWANCE
    assert {answer.headers["Retry-After"] for answer in answers if answer.status_code == 429} == {"1"}


@pytest.mark.parametrize("username", ["alice-liddell", "nobody-of-note", "no name"])
@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=3, FAILED_LOGIN_MAX_DELAY=timedelta(seconds=5))
def test_the_wait_doubles_up_to_the_longest(people: People, username: str, verified: list[bytes]) -> None:
    """B1, B3: a growing delay, never a lockout. E1: a name without an account behaves the same."""
    people.sign_up("alice-liddell")
    waits = []
    with time_machine.travel(START, tick=False) as clock:
        for _ in range(7):
            assert told(log_in(people.client, username)) == REFUSED
            braked = log_in(people.client, username, PASSWORD) if len(verified) >= 3 else None
            waits.append(int(braked.headers["Retry-After"]) if braked else 0)
            clock.shift(waits[-1])
    assert waits == [0, 0, 1, 2, 4, 5, 5]
    assert len(verified) == 7


@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=3)
@pytest.mark.stores("sqlite")
def test_the_wait_is_not_over_a_moment_too_soon(people: People) -> None:
    """B1: an attempt during the delay does not extend it."""
    with time_machine.travel(START, tick=False) as clock:
        for wait in (0, 0, 0, 1):  # the next delay is two seconds
            clock.shift(wait)
            log_in(people.client, "nobody-of-note")
        for wait in (0, 1.5, 0.4):
            clock.shift(wait)
            assert told(log_in(people.client, "nobody-of-note")) == BRAKED
        clock.shift(0.1)
        assert told(log_in(people.client, "nobody-of-note")) == REFUSED


@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=3)
def test_a_login_forgives_the_failures_before_it(app: Flask, people: People) -> None:
    """B1: "in a row"."""
    people.sign_up("alice-liddell")
    for _ in range(3):
        assert [told(log_in(people.client, "alice-liddell")) for _ in range(2)] == [REFUSED] * 2
        assert log_in(people.client, "alice-liddell", PASSWORD).status_code == 200
        assert failures(app, "alice-liddell") == 0


@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=1, FAILED_LOGIN_MAX_DELAY=timedelta(days=1))
@pytest.mark.stores("sqlite", "postgresql")
def test_failures_are_forgotten_after_a_day_and_their_rows_go(app: Flask, people: People) -> None:
    """B1: the table does not grow without bound."""
    with time_machine.travel(START, tick=False) as clock:
        for name in ("nobody-of-note", "nobody-at-all"):
            log_in(people.client, name)
        clock.shift(timedelta(days=1, seconds=2))
        assert told(log_in(people.client, "nobody-of-note")) == REFUSED
        assert failures(app, "nobody-of-note") == 1
        log_in(people.client, "somebody-new")
    assert (failures(app, "nobody-at-all"), failures(app, "nobody-of-note")) == (0, 1)


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=1)
def test_a_live_session_does_not_feel_that_its_account_is_guessed_at(people: People) -> None:
    """B3 (CVE-2024-1722): guessing delays logins of the account and nothing else."""
    alice, bob = people.sign_up("alice-liddell"), people.sign_up("bob-the-builder")
    log_in(people.client, "alice-liddell")
    assert told(log_in(people.client, "alice-liddell", PASSWORD)) == BRAKED
    assert alice.get("/users/").status_code == alice.refresh().status_code == 200
    assert alice.patch(f"/users/{alice.id}", json={"mobile": "13200002222"}).status_code == 200
    assert people.log_in("bob-the-builder").id == bob.id


SPELLINGS = ["Alice-Liddell", "ALICE-LIDDELL", "ａｌｉｃｅ-liddell", "ＡＬＩＣＥ－ＬＩＤＤＥＬＬ", " alice-liddell "]


@pytest.mark.parametrize("setting", [{"FAILED_LOGIN_ALLOWANCE": 5}, {"LOGIN_ACCOUNT_LIMIT": "5/minute"}], ids=str)
@pytest.mark.stores("sqlite", "postgresql")
def test_every_spelling_of_a_name_counts_as_one(app: Flask, people: People, setting: dict[str, Any]) -> None:
    """B5: for failed logins and for the rate limit."""
    people.sign_up("alice-liddell")
    change_settings(app, **setting)
    with time_machine.travel(datetime.now(UTC), tick=False):
        assert [told(log_in(people.client, spelling)) for spelling in SPELLINGS] == [REFUSED] * 5
        assert {told(log_in(people.client, spelling)) for spelling in [*SPELLINGS, "alice-liddell"]} == {BRAKED}
        assert told(log_in(people.client, "bob-the-builder")) == REFUSED


@pytest.mark.stores("sqlite", "postgresql")
def test_guesses_are_counted_without_redis(database_url: str, verified: list[bytes]) -> None:
    """B1: an outage of Redis allows no more guesses."""
    with stores.application(database_url, "", REDIS_URL=NOBODY_LISTENS, FAILED_LOGIN_ALLOWANCE=ALLOWANCE) as app:
        People(app.test_client()).sign_up("alice-liddell")
        with time_machine.travel(datetime.now(UTC), tick=False):
            answers = [told(log_in(app.test_client(), "alice-liddell")) for _ in range(10)]
    assert answers == [REFUSED] * ALLOWANCE + [BRAKED] * 5
    assert len(verified) == ALLOWANCE


def test_parallel_right_logins_are_all_answered(app: Flask, people: People) -> None:
    """B1, N1: they insert and delete the row of attempts concurrently, and none gets a 5xx."""
    alice = people.sign_up("alice-liddell")
    change_settings(app, FAILED_LOGIN_ALLOWANCE=100)
    start = threading.Barrier(20)

    def enter(_: int) -> TestResponse:
        start.wait()
        return log_in(app.test_client(), "alice-liddell", PASSWORD)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(enter, range(20)))
    assert Counter(answer.status_code for answer in answers) == {200: 20}
    assert {answer.get_json()["data"]["id"] for answer in answers} == {alice.id}
    assert failures(app, "alice-liddell") == 0
