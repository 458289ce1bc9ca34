"""The purge of sessions: it deletes those that ended a day ago, in batches, and no others."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from flask import Flask
from sqlalchemy import event, func, select
from sqlalchemy.engine import Connection

from apps.extensions import db
from apps.models import LoginAttempt, Session
from apps.utils import clock
from tests.support.forge import claims_of
from tests.support.people import People, Person

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def purge(app: Flask, *options: str) -> str:
    result = app.test_cli_runner().invoke(args=["sessions", "purge", *options])
    assert result.exit_code == 0, result.output
    return str(result.output).splitlines()[-1]


def add_sessions(app: Flask, user_id: int, *ends: datetime) -> None:
    """Add sessions whose refresh tokens expire at the times `ends`, as a login does."""
    with app.app_context():
        for end in ends:
            times = {"create_time": end - DAY, "last_used_time": end - DAY, "expire_time": end, "end_time": end}
            db.session.add(Session(id=secrets.token_hex(16), user_id=user_id, address="", user_agent="", **times))
        db.session.commit()


def sids(app: Flask) -> set[str]:
    with app.app_context():
        return set(db.session.scalars(select(Session.id)))


def sid(person: Person) -> str:
    return str(claims_of(person.access_token)["sid"])


@contextmanager
def deletions(app: Flask) -> Iterator[list[int]]:
    """Yield a list that collects the row count of each DELETE of sessions."""
    seen: list[int] = []

    def note(_connection: Connection, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("DELETE FROM sessions"):
            seen.append(getattr(cursor, "rowcount", -1))

    with app.app_context():
        engine = db.engine
    event.listen(engine, "after_cursor_execute", note)
    yield seen
    event.remove(engine, "after_cursor_execute", note)


def test_what_expired_a_day_ago_goes_and_what_lives_stays(app: Flask, people: People) -> None:
    """R11: for a day the reason why a session ended can still be read."""
    with time_machine.travel(NOW, tick=False):
        alice = people.sign_up()
        second = timedelta(seconds=1)
        add_sessions(app, alice.id, NOW - 40 * DAY, NOW - DAY - second)
        gone = sids(app) - {sid(alice)}
        add_sessions(app, alice.id, NOW - DAY + second, NOW - second, NOW + second)
        before = sids(app)
        assert purge(app) == "deleted 2 sessions"
        assert before - sids(app) == gone
        assert alice.get("/users/").status_code == 200


@pytest.mark.settings(JWT_REFRESH_TOKEN_EXPIRES=30 * DAY, SESSION_LIFETIME=90 * DAY)
@pytest.mark.parametrize("everywhere", [False, True])
def test_what_was_ended_a_day_ago_goes_though_its_tokens_have_not_expired(
    app: Flask, people: People, everywhere: bool
) -> None:
    """R11, R6: its tokens are refused before and after the purge."""
    with time_machine.travel(NOW, tick=False) as time:
        ended, lives = people.sign_up("alice-liddell"), people.sign_up("bob-the-builder")
        ended.post("/logout", json={"everywhere": everywhere})
        time.shift(DAY - timedelta(seconds=1))
        assert purge(app) == "deleted 0 sessions"
        time.shift(timedelta(seconds=2))
        assert purge(app) == "deleted 1 sessions"
        assert sids(app) == {sid(lives)}
        assert [ended.refresh().status_code, lives.refresh().status_code] == [401, 200]


def test_rows_go_in_batches(app: Flask, people: People) -> None:
    """R11: each batch is its own transaction, so no lock is held for long."""
    alice = people.sign_up()
    add_sessions(app, alice.id, *[datetime.now(UTC) - 2 * DAY] * 25)
    with deletions(app) as seen:
        assert purge(app, "--batch", "10") == "deleted 25 sessions"
    assert [count for count in seen if count] == [10, 10, 5]
    assert sids(app) == {sid(alice)}


@pytest.mark.parametrize("batch", ["0", "-1", "10001", "many"])
@pytest.mark.stores("sqlite")
def test_a_batch_that_no_database_takes_in_one_statement_is_refused(app: Flask, people: People, batch: str) -> None:
    """R11: SQLite accepts 32,766 parameters, PostgreSQL 65,535."""
    result = app.test_cli_runner().invoke(args=["sessions", "purge", "--batch", batch])
    assert result.exit_code == 2
    assert "--batch" in result.output


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
def test_counts_of_failed_logins_go_with_their_user_or_after_a_day(app: Flask, people: People) -> None:
    """Counters exist for every name that was typed, also for unknown ones."""

    def counts() -> int:
        with app.app_context():
            return db.session.scalar(select(func.count()).select_from(LoginAttempt)) or 0

    alice = people.sign_up("alice-liddell")
    for name in ("alice-liddell", "bob-the-builder"):
        people.client.post("/api/v1/login", json={"username": name, "password": "a wrong guess"})
    alice.post("/password", json={"current_password": "a wrong guess", "new_password": "whatever it is"})
    assert counts() == 3
    assert alice.delete(f"/users/{alice.id}").status_code == 200
    assert counts() == 1
    with time_machine.travel(clock.now() + timedelta(days=2)):
        result = app.test_cli_runner().invoke(args=["sessions", "purge"])
    assert "deleted 1 counts of failed logins" in result.output
    assert counts() == 0
