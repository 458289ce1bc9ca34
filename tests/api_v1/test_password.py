"""Passwords over HTTP: verified as sent, rehashed when possible, and hashed at most as many at once as configured."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unicodedata import normalize

import argon2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event
from werkzeug.test import TestResponse

from apps.config import DevConfig
from apps.extensions import db
from apps.models import LoginAttempt, User
from apps.settings.reader import declared
from tests.support.people import PASSWORD, People, sign_up_body
from tests.support.settings import change_settings

OVERLOADED = (503, "overloaded")


def log_in(client: FlaskClient, username: str, password: str) -> TestResponse:
    return client.post("/api/v1/login", json={"username": username, "password": password})


def told(response: TestResponse) -> tuple[int, str | None]:
    return response.status_code, response.get_json().get("error", {}).get("type")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every password that was hashed or verified."""
    seen: list[bytes] = []
    for name in ("hash", "verify"):
        original = getattr(argon2.PasswordHasher, name)

        def count(*args: Any, original: Any = original) -> Any:
            seen.append(args[-1])
            return original(*args)

        monkeypatch.setattr(argon2.PasswordHasher, name, count)
    return seen


BOUNDARIES = {"7": ("p" * 7, 400), "8": ("p" * 8, 200), "128": ("p" * 128, 200), "129": ("p" * 129, 400)}
BOUNDARIES |= {"128 of four bytes": ("🐇" * 128, 200), "8 spaces": (" " * 8, 200), "7 of four bytes": ("🐇" * 7, 400)}


@pytest.mark.parametrize(("password", "status"), BOUNDARIES.values(), ids=BOUNDARIES)
@pytest.mark.stores("sqlite", "mariadb")
def test_a_password_has_8_to_128_characters(client: FlaskClient, password: str, status: int) -> None:
    """P3: characters, not bytes, in any mixture."""
    response = client.post("/api/v1/users/", json=sign_up_body("alice-liddell", password=password))
    assert response.status_code == status
    if status == 200:
        assert log_in(client, "alice-liddell", password).status_code == 200
    else:
        assert list(response.get_json()["error"]["fields"]) == ["password"]


@pytest.mark.parametrize("length", [129, 60_000, 2**20])
@pytest.mark.stores("sqlite")
def test_a_password_that_is_too_long_is_not_hashed(people: People, length: int, hashed: list[bytes]) -> None:
    """P3: a long password costs its sender more than the service."""
    alice = people.sign_up("alice-liddell")
    hashed.clear()
    body = sign_up_body("alice-liddell", password="p" * length)
    answers = [people.client.post("/api/v1/users/", json=body), alice.put(f"/users/{alice.id}", json=body)]
    answers += [log_in(people.client, "alice-liddell", "p" * length)]
    assert {answer.status_code for answer in answers} == {400 if length < 2**16 else 413}
    assert hashed == []


LONG = "p" * 72
PAIRS = {
    "a space after": (PASSWORD, PASSWORD + " "),
    "a space before": (PASSWORD, " " + PASSWORD),
    "a line break after": (PASSWORD, PASSWORD + "\n"),
    "case": (PASSWORD, PASSWORD.upper()),
    "byte 73": (LONG + "a", LONG + "b"),
    "nothing after byte 72": (LONG + "a", LONG),
    "the last of 128": ("p" * 127 + "a", "p" * 127 + "b"),
    "compatibility": ("ﬁve ﬁgures", "five figures"),
    "full width": ("ｐassword", "password"),
    "zero width": (PASSWORD, PASSWORD + "\u200b"),
    "an accent": ("motdepassé", "motdepasse"),
}


@pytest.mark.parametrize(("password", "other"), PAIRS.values(), ids=PAIRS)
@pytest.mark.stores("sqlite")
def test_a_password_is_verified_as_it_was_sent(people: People, password: str, other: str) -> None:
    """P4: not trimmed, truncated or case-folded, in either direction."""
    for name, mine, theirs in (("alice-liddell", password, other), ("bob-the-builder", other, password)):
        people.sign_up(name, password=mine)
        assert told(log_in(people.client, name, theirs)) == (401, "wrong_credentials")
        assert log_in(people.client, name, mine).status_code == 200


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.stores("sqlite")
def test_a_keyboard_that_composes_and_one_that_does_not_give_one_password(people: People, form: Any) -> None:
    """P4: RFC 8265, 4.2, at sign-up, login and change."""
    alice = people.sign_up("alice-liddell", password=normalize(form, "Überraschung für é"))
    for typed in ("NFC", "NFD"):
        assert people.log_in("alice-liddell", normalize(typed, "Überraschung für é")).id == alice.id
    alice.patch(f"/users/{alice.id}", json={"password": normalize(form, "Ärger mit ñandús")})
    for typed in ("NFC", "NFD"):
        assert people.log_in("alice-liddell", normalize(typed, "Ärger mit ñandús")).id == alice.id


def hash_of(app: Flask, user_id: int) -> str:
    with app.app_context():
        return db.session.scalars(db.select(User.password_hash).where(User.id == user_id)).one()


def test_a_login_rehashes_what_was_made_with_less(app: Flask, people: People) -> None:
    """P2: OWASP, "Upgrading the work factor". It rehashes once, and the session of that login is valid."""
    alice = people.sign_up("alice-liddell")
    assert "m=8,t=1,p=1" in hash_of(app, alice.id)
    change_settings(app, PASSWORD_TIME_COST=2)
    log_in(people.client, "alice-liddell", "a wrong password")
    assert "m=8,t=1,p=1" in hash_of(app, alice.id)
    again = people.log_in("alice-liddell")
    rehashed = hash_of(app, alice.id)
    assert "m=8,t=2,p=1" in rehashed
    assert again.get("/users/").status_code == alice.get("/users/").status_code == 200
    people.log_in("alice-liddell")
    assert hash_of(app, alice.id) == rehashed


def test_parallel_logins_that_rehash_are_all_let_in(app: Flask, people: People) -> None:
    """P2: the first rehash does not invalidate the password for the others."""
    people.sign_up("alice-liddell")
    change_settings(app, PASSWORD_TIME_COST=2, FAILED_LOGIN_ALLOWANCE=100)
    start = threading.Barrier(8)

    def enter(_: int) -> int:
        start.wait()
        return log_in(app.test_client(), "alice-liddell", PASSWORD).status_code

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(enter, range(8))) == {200: 8}


@pytest.mark.settings(PASSWORD_HASH_CONCURRENCY=1)
@pytest.mark.stores("sqlite")
def test_a_login_is_let_in_when_there_is_no_turn_to_rehash(
    app: Flask, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2, V8: a later login rehashes."""
    alice = people.sign_up("alice-liddell")
    before = hash_of(app, alice.id)
    may_end = threading.Event()

    def take_every_turn(*_: Any) -> bool:
        change_settings(app, PASSWORD_HASH_TIMEOUT=timedelta(milliseconds=10))
        app.extensions["hashing"].threads.submit(may_end.wait, 10)
        return True

    monkeypatch.setattr(argon2.PasswordHasher, "check_needs_rehash", take_every_turn)
    assert log_in(people.client, "alice-liddell", PASSWORD).status_code == 200
    assert hash_of(app, alice.id) == before
    may_end.set()


@contextmanager
def a_login_that_hashes(app: Flask, username: str) -> Iterator[Future[TestResponse]]:
    """Start a login that stays in its hash until the end of the block."""
    is_hashing, may_end = threading.Event(), threading.Event()
    verify = argon2.PasswordHasher.verify

    def hold(*args: Any) -> bool:
        if not is_hashing.is_set():
            is_hashing.set()
            may_end.wait(10)
        return verify(*args)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(argon2.PasswordHasher, "verify", hold)
        login = pool.submit(lambda: log_in(app.test_client(), username, PASSWORD))
        assert is_hashing.wait(10)
        try:
            yield login
        finally:
            may_end.set()


def failures(app: Flask) -> list[int]:
    with app.app_context():
        return sorted(db.session.scalars(db.select(LoginAttempt.failed_count)))


@pytest.mark.settings(PASSWORD_HASH_CONCURRENCY=1, PASSWORD_HASH_QUEUE=0, FAILED_LOGIN_ALLOWANCE=1)
def test_one_hash_too_many_is_refused_at_once_and_counts_as_no_guess(app: Flask, people: People) -> None:
    """V8: while one request hashes, requests that need a hash get 503. Others are answered."""
    alice, bob = people.sign_up("alice-liddell"), people.sign_up("bob-the-builder")
    with a_login_that_hashes(app, "alice-liddell") as login:
        answers = [log_in(people.client, name, PASSWORD) for name in ("bob-the-builder", "nobody-of-note") * 3]
        answers += [people.client.post("/api/v1/users/", json=sign_up_body())]
        answers += [bob.patch(f"/users/{bob.id}", json={"password": "another password"})]
        assert {told(answer) for answer in answers} == {OVERLOADED}
        assert alice.get("/users/").status_code == alice.refresh().status_code == 200
        assert not login.done()
        assert failures(app) == [1]  # by the login that hashes: the others were refused before any write
    assert login.result().status_code == 200
    assert people.log_in("bob-the-builder").id == bob.id


@pytest.mark.settings(PASSWORD_HASH_CONCURRENCY=1, PASSWORD_HASH_QUEUE=0, LOGIN_LIMIT="2/hour")
def test_who_is_refused_for_want_of_a_turn_asks_no_store(app: Flask, people: People) -> None:
    """V8: a flood of logins costs other requests as little as possible."""
    people.sign_up("alice-liddell")
    statements: list[str] = []
    with a_login_that_hashes(app, "alice-liddell"), app.app_context():
        note = lambda *arguments: statements.append(arguments[2])  # noqa: E731
        event.listen(db.engine, "before_cursor_execute", note)
        answers = [log_in(people.client, "alice-liddell", PASSWORD) for _ in range(3)]
        event.remove(db.engine, "before_cursor_execute", note)
    assert [told(answer) for answer in answers] == [OVERLOADED] * 3  # none counts against the limit of two
    assert statements == []
    assert people.log_in("alice-liddell")


@pytest.mark.settings(PASSWORD_HASH_CONCURRENCY=1, PASSWORD_HASH_QUEUE=1, FAILED_LOGIN_ALLOWANCE=1)
def test_who_waited_in_vain_made_no_guess(app: Flask, people: People) -> None:
    """V8: the attempt is counted before the wait, and then refunded."""
    people.sign_up("alice-liddell")
    bob = people.sign_up("bob-the-builder")
    change_settings(app, PASSWORD_HASH_TIMEOUT=timedelta(milliseconds=50))
    with a_login_that_hashes(app, "alice-liddell"):
        assert [told(log_in(people.client, "bob-the-builder", PASSWORD)) for _ in range(3)] == [OVERLOADED] * 3
        assert failures(app) == [0, 1]
    assert people.log_in("bob-the-builder").id == bob.id


@pytest.mark.settings(PASSWORD_HASH_CONCURRENCY=1, PASSWORD_HASH_QUEUE=1)
@pytest.mark.stores("sqlite")
def test_as_many_as_the_queue_holds_wait_their_turn(app: Flask, people: People) -> None:
    """V8."""
    people.sign_up("alice-liddell")
    with ThreadPoolExecutor(1) as pool:
        with a_login_that_hashes(app, "alice-liddell") as login:
            second = pool.submit(lambda: log_in(app.test_client(), "alice-liddell", PASSWORD))
            while app.extensions["hashing"].slots._value:  # until the second login is in the queue
                time.sleep(0.01)
            assert told(log_in(people.client, "alice-liddell", PASSWORD)) == OVERLOADED
        assert (login.result().status_code, second.result().status_code) == (200, 200)


@pytest.mark.settings(**{name: getattr(DevConfig, name) for name in declared(DevConfig) if "PASSWORD_" in name})
@pytest.mark.stores("sqlite")
def test_fifty_who_want_one_name_wait_their_turn_in_development(app: Flask) -> None:
    """N1, V8: with the hash settings of the README's first command, one request succeeds and none gets a 5xx."""
    start = threading.Barrier(50)

    def sign_up(_: int) -> int:
        start.wait()
        return app.test_client().post("/api/v1/users/", json=sign_up_body("white-rabbit")).status_code

    with ThreadPoolExecutor(50) as pool:
        assert Counter(pool.map(sign_up, range(50))) == {200: 1, 409: 49}
