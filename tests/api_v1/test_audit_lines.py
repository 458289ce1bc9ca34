"""The audit's log lines: one for each committed event, none for any other, and without secrets."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from apps.database.transaction import transactional
from apps.extensions import db
from apps.models import AuditEvent
from apps.services.audit import record, record_alone
from apps.utils import clock
from tests.support.people import People, sign_up_body

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(output: io.StringIO) -> Lines:
    """Return a reader of the audit's log lines. Every line of the output must be JSON."""

    def read() -> list[dict[str, Any]]:
        parsed = [json.loads(line) for line in output.getvalue().split("\n") if line]
        return [line for line in parsed if line["logger"] == "apps.services.audit"]

    return read


def rows(app: Flask) -> list[dict[str, Any]]:
    with app.app_context():
        return [dict(row) for row in db.session.execute(text("SELECT * FROM audit_events ORDER BY id")).mappings()]


def test_there_is_a_line_for_every_event(app: Flask, people: People, lines: Lines) -> None:
    """L2: the time in UTC, and the event, outcome, actor, subject, address and request id of the row."""
    alice = people.sign_up()
    people.client.post("/api/v1/login", json={"username": alice.username, "password": "wrong"})
    response = alice.post("/logout")
    assert {line["address"] for line in lines()} == {"127.0.0.1"}
    assert {row["address"] for row in rows(app)} == {"127.0.0.0/24"}  # rows are kept for ever: they identify nobody
    told = ("event", "outcome", "actor_id", "subject_id", "session_id", "detail")
    assert [[line[name] for name in told] for line in lines()] == [[row[name] for name in told] for row in rows(app)]
    last = lines()[-1]
    assert last["actor_id"] == last["subject_id"] == alice.id
    assert last["request_id"] == response.headers["X-Request-ID"] == rows(app)[-1]["request_id"]
    assert datetime.fromisoformat(last["time"]).utcoffset() == timedelta(0)
    assert abs(datetime.fromisoformat(last["event_time"]) - datetime.now(UTC)) < timedelta(minutes=5)


@pytest.mark.settings(TRUSTED_PROXIES=1)
@pytest.mark.parametrize(
    ("hop", "address", "network"),
    [
        ("203.0.113.37:50000", "203.0.113.37", "203.0.113.0/24"),
        ('"[2001:db8:7::1%eth0]:443"', "2001:db8:7::1", "2001:db8:7::/48"),
    ],
)
def test_no_port_of_a_proxy_is_kept(
    app: Flask, people: People, output: io.StringIO, lines: Lines, hop: str, address: str, network: str
) -> None:
    """B4, L2: the session, the audit and the log name the address alone."""
    people.client.environ_base["HTTP_X_FORWARDED_FOR"] = hop
    alice = people.sign_up()
    (session,) = alice.get("/sessions").get_json()["data"]["data"]
    written = [json.loads(line) for line in output.getvalue().splitlines()]
    assert session["address"] == address
    assert {row["address"] for row in rows(app)} == {network}
    assert {line["address"] for line in [*lines(), *written]} == {address}


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r", "\u2028", "\x85", "\x0b"])
@pytest.mark.stores("sqlite")
def test_nobody_forges_a_line(app: Flask, people: People, output: io.StringIO, lines: Lines, ending: str) -> None:
    """L2: a line break in an address that a proxy forwards unchanged stays within its log line."""
    evil = f'x{ending}{{"event": "user.delete", "subject_id": 1}}'
    people.client.post("/api/v1/users/", json=sign_up_body(), environ_overrides={"REMOTE_ADDR": evil})
    assert [(line["event"], line["address"]) for line in lines()] == [("user.sign_up", evil)]
    assert output.getvalue().isascii()
    assert rows(app)[0]["address"] is None


@pytest.mark.parametrize("given", ["short", "a" * 65, "with space", 'quote"quote', "né-à-quatre"])
@pytest.mark.stores("sqlite")
def test_a_request_id_is_a_plain_word(app: Flask, people: People, given: str) -> None:
    """L2: a client's request id is used only if it is valid."""
    people.client.post("/api/v1/users/", json=sign_up_body(), headers={"X-Request-ID": given})
    assert rows(app)[0]["request_id"].isalnum()


@pytest.mark.settings(LOG_LEVEL="ERROR")
@pytest.mark.stores("sqlite")
def test_no_level_silences_the_audit(people: People, output: io.StringIO, lines: Lines) -> None:
    """L2: with LOG_LEVEL=ERROR, the audit's lines are written and no others."""
    people.sign_up()
    assert [line["event"] for line in lines()] == ["user.sign_up"]
    assert output.getvalue().count("\n") == 1


def test_what_is_rolled_back_is_told_nowhere(app: Flask, lines: Lines) -> None:
    """L3: also not together with the next event of the same thread."""

    @transactional
    def fail() -> None:
        record("user.delete", 1)
        raise ValueError

    with app.app_context():
        with pytest.raises(ValueError):
            fail()
        assert lines() == []
        record_alone("login", 2, outcome="success")
    assert [line["event"] for line in lines()] == [row["event"] for row in rows(app)] == ["login"]


def test_a_commit_that_fails_is_told_nowhere(app: Flask, people: People, lines: Lines) -> None:
    """L3: the id of the next event is taken, so the database refuses the commit of a sign-up."""
    alice = people.sign_up("alice-liddell")
    with app.app_context():
        blank = {"event": "planted", "outcome": "success", "detail": "{}", "hash": bytes(32)}
        db.session.add(AuditEvent(id=2, time=clock.now(), **blank))
        db.session.commit()
    assert people.client.post("/api/v1/users/", json=sign_up_body("bob-the-builder")).status_code == 500
    assert alice.post("/logout").status_code == 500
    assert alice.get("/users/").status_code == 200
    assert [row["event"] for row in rows(app)] == ["user.sign_up", "planted"]
    assert [line["event_id"] for line in lines()] == [1]
    with app.app_context():
        assert db.session.scalar(text("SELECT count(*) FROM users")) == 1


@pytest.mark.settings(JWT_REFRESH_ROTATION=True, REFRESH_REUSE="grace", REFRESH_REUSE_GRACE=0)
def test_no_secret_is_told(app: Flask, people: People, output: io.StringIO) -> None:
    """L1: right and wrong passwords, mobile numbers, tokens, and their stored forms."""
    passwords = ["canary password 1", "canary password 2", "canary password 3", "canary-mistyped"]
    admin, alice = people.admin(), people.sign_up(password=passwords[0], mobile="13277776666")
    people.client.post("/api/v1/login", json={"username": alice.username, "password": passwords[3]})
    people.client.post("/api/v1/login", json={"username": "canary-mistyped", "password": passwords[3]})
    alice.patch(f"/users/{alice.id}", json={"mobile": "13288887777", "password": passwords[1]})
    alice.post("/password", json={"current_password": passwords[1], "new_password": passwords[2]})
    new = alice.refresh().get_json()["data"]
    alice.refresh()
    admin.get("/admin/users?mobile=13288887777")
    with app.app_context():
        stored = db.session.execute(text("SELECT password_hash, mobile_ciphertext, mobile_index FROM users")).all()
    columns = [value if isinstance(value, str) else bytes(value).hex() for row in stored for value in row]
    tokens = [alice.access_token, alice.refresh_token, *new.values(), *(token.split(".")[2] for token in new.values())]
    everything = output.getvalue() + repr(rows(app))
    secrets = [*passwords, "132777", "132888", "argon2", *columns, *tokens]
    assert [secret for secret in secrets if secret in everything] == []
    assert "refresh_token.reuse" in everything
