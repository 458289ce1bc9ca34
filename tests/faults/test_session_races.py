"""Races on one user: in any order, no session is orphaned or revived, and the cap holds."""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select, text
from werkzeug.test import TestResponse

from apps.extensions import cache, db
from apps.models import Session
from apps.services.identity_cache import user_key
from apps.services.session import purge_sessions
from tests.support.forge import claims_of
from tests.support.people import PASSWORD, People, Person, bearer

Act = Callable[[Person], TestResponse]
ROTATING: dict[str, Any] = {"JWT_REFRESH_ROTATION": True, "FAILED_LOGIN_ALLOWANCE": 100}


def enter(person: Person) -> TestResponse:
    return person.client.post("/api/v1/login", json={"username": person.username, "password": PASSWORD})


def read(person: Person) -> TestResponse:
    return person.get("/users/")


def at_once(app: Flask, person: Person, *acts: Act) -> list[TestResponse]:
    """Start all acts at the same moment, each from its own client, and return their answers in order."""
    barrier = Barrier(len(acts))

    def do(act: Act) -> TestResponse:
        mine = Person(app.test_client(), person.id, person.username, person.access_token, person.refresh_token)
        barrier.wait()
        return act(mine)

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(do, acts))


def tokens_of(answers: list[TestResponse]) -> list[tuple[str, str]]:
    """Return the (access token, refresh token) of each answer that has them."""
    given = [answer.get_json()["data"] for answer in answers]
    return [(data["access_token"], data["refresh_token"]) for data in given if "access_token" in data]


def statuses(people: People, access_token: str, refresh_token: str) -> list[int]:
    read = people.client.get("/api/v1/users/", headers=bearer(access_token))
    refresh = people.client.post("/api/v1/refresh", headers=bearer(refresh_token))
    return [read.status_code, refresh.status_code]


def count(app: Flask, query: str) -> int:
    with app.app_context():
        return int(db.session.scalar(text(query)) or 0)


def live_sessions(app: Flask, user_id: int) -> int:
    query = select(func.count()).where(Session.user_id == user_id, Session.revoke_time.is_(None))
    with app.app_context():
        return int(db.session.scalar(query) or 0)


ORPHANS = "SELECT count(*) FROM sessions WHERE user_id NOT IN (SELECT id FROM users)"


@pytest.mark.settings(**ROTATING)
def test_delete_update_refresh_and_login_at_once_leave_nothing_of_the_user(app: Flask, people: People) -> None:
    """N3, R6: no session remains without its user, and no token, older or issued in the race, is accepted."""
    for number in range(20):
        alice = people.sign_up()
        if number % 2:  # the readers then fill the cache while the user is deleted
            with app.app_context():
                cache.forget(user_key(alice.id))
        deleted, *others = at_once(
            app,
            alice,
            lambda mine: mine.delete(f"/users/{mine.id}"),
            lambda mine: mine.patch(f"/users/{mine.id}", json={"info": {"age": 44}}),
            Person.refresh,
            enter,
            read,
            read,
        )
        assert deleted.status_code == 200, deleted.text
        assert {answer.status_code for answer in others} <= {200, 401, 404}
        for pair in [(alice.access_token, alice.refresh_token), *tokens_of(others)]:
            assert statuses(people, *pair) == [401, 401]
    assert count(app, ORPHANS) == count(app, "SELECT count(*) FROM users") == 0


ENDS: dict[str, Act] = {
    "log out": lambda mine: mine.post("/logout"),
    "log out everywhere": lambda mine: mine.post("/logout", json={"everywhere": True}),
    "end it by its id": lambda mine: mine.delete(f"/sessions/{claims_of(mine.access_token)['sid']}"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.settings(**ROTATING)
def test_a_refresh_at_the_end_of_its_session_gives_nothing_that_lives(app: Flask, people: People, end: str) -> None:
    """R2, R6: the row decides; tokens issued just before the end are refused after it."""
    for _ in range(5):
        alice = people.sign_up()
        ended, *refreshed = at_once(app, alice, ENDS[end], *[Person.refresh] * 4)
        assert ended.status_code == 200
        assert {answer.status_code for answer in refreshed} <= {200, 401}
        for pair in [(alice.access_token, alice.refresh_token), *tokens_of(refreshed)]:
            assert statuses(people, *pair) == [401, 401]
        assert live_sessions(app, alice.id) == 0


@pytest.mark.settings(**ROTATING)
def test_a_new_password_outruns_the_refreshes_and_logins_of_the_old_one(app: Flask, people: People) -> None:
    """R6, P6: afterwards one session is live, whatever was being opened with the old password."""
    for _ in range(5):
        alice = people.sign_up()
        other = people.log_in(alice.username)
        body = {"current_password": PASSWORD, "new_password": PASSWORD + "!"}
        changed, *others = at_once(
            app,
            alice,
            lambda mine, body=body: mine.post("/password", json=body),  # type: ignore[misc]
            lambda _, other=other: Person.refresh(other),  # type: ignore[misc]
            enter,
            enter,
        )
        assert changed.status_code == 200, changed.text
        for pair in [(other.access_token, other.refresh_token), *tokens_of(others)]:
            assert statuses(people, *pair) == [401, 401]
        assert live_sessions(app, alice.id) == 1


@pytest.mark.settings(SESSIONS_PER_USER=3, FAILED_LOGIN_ALLOWANCE=100)
def test_ten_logins_at_once_never_leave_more_sessions_than_the_cap(app: Flask, people: People) -> None:
    """R11: all succeed, the cap holds right after each answer, and as many tokens are valid as sessions are live."""
    alice = people.sign_up()
    seen: list[int] = []

    def enter_and_look(mine: Person) -> TestResponse:
        answer = enter(mine)
        seen.append(live_sessions(app, mine.id))
        return answer

    answers = at_once(app, alice, *[enter_and_look] * 10)
    assert [answer.status_code for answer in answers] == [200] * 10
    assert max(seen) <= live_sessions(app, alice.id) == 3
    alive = [pair for pair in tokens_of(answers) if statuses(people, *pair) == [200, 200]]
    assert len(alive) == 3


def add_old_sessions(app: Flask, user_id: int, how_many: int) -> None:
    end = datetime.now(UTC) - timedelta(days=2)
    row = {"user_id": user_id, "address": "", "user_agent": "", "expire_time": end, "end_time": end}
    with app.app_context():
        db.session.execute(db.insert(Session), [{"id": secrets.token_hex(16), **row} for _ in range(how_many)])
        db.session.commit()


@pytest.mark.settings(SESSIONS_PER_USER=3, FAILED_LOGIN_ALLOWANCE=100)
def test_two_purges_beside_logins_hurt_nobody(app: Flask, people: People) -> None:
    """R11: none fails, each old row is deleted once, and no live one is deleted."""
    alice = people.sign_up()
    add_old_sessions(app, alice.id, 400)
    barrier = Barrier(6)

    def log_in_often(_: int) -> list[int]:
        mine = Person(app.test_client(), alice.id, alice.username, alice.access_token, alice.refresh_token)
        barrier.wait()
        return [enter(mine).status_code for _ in range(5)]

    def purge() -> int:
        barrier.wait()
        with app.app_context():
            return purge_sessions(7)

    with ThreadPoolExecutor(6) as pool:
        logins, other = pool.map(log_in_often, range(4)), pool.submit(purge)
        barrier.wait()
        result = app.test_cli_runner().invoke(args=["sessions", "purge", "--batch", "7"])
        assert {status for answers in logins for status in answers} == {200}
    assert result.exit_code == 0, result.output
    printed = int(result.output.splitlines()[-1].split()[1])
    assert printed + other.result() == 400
    assert live_sessions(app, alice.id) == 3
    assert count(app, "SELECT count(*) FROM sessions") == 1 + 20
