"""The audit: each security event is recorded in the transaction of its change and shown to the users who may see it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from werkzeug.test import TestResponse

from apps.extensions import db
from apps.services.client import SCOPES, add_client
from tests.support.audit import read_audit, write_audit
from tests.support.keys import basic
from tests.support.people import PASSWORD, People, Person, sign_up_body

EVENT = {"id", "time", "event", "outcome", "actor_id", "subject_id", "session_id", "address", "detail"}
NEW_PASSWORD = "another horse battery"


@dataclass
class Cast:
    """The persons of the tests: Alice on two devices, an admin, and another service."""

    people: People
    admin: Person
    alice: Person
    phone: Person
    service: dict[str, str]  # the request headers of another service
    service_id: str

    def log_in(self, password: str) -> TestResponse:
        body = {"username": self.alice.username, "password": password}
        return self.people.client.post("/api/v1/login", json=body)

    def reuse(self) -> TestResponse:
        self.alice.refresh()
        return self.alice.refresh()

    def revoke(self, headers: dict[str, str] | None = None) -> TestResponse:
        body = {"token": self.alice.access_token}
        return self.people.client.post("/api/v1/revoke", data=body, headers=headers or self.service)

    @property
    def session(self) -> str:
        sessions = self.phone.get("/sessions").get_json()["data"]["data"]
        return str(next(session["id"] for session in sessions if not session["current"]))


CHANGES = {"username": "alice-pleasance", "mobile": "13900002222", "info": {"age": 30}}
ADMIN = "/admin/users/{}"
ACTS: dict[str, tuple[Callable[[Cast], TestResponse], tuple[str, str, str | None, dict[str, Any]]]] = {
    "sign up": (
        lambda cast: cast.people.client.post("/api/v1/users/", json=sign_up_body()),
        ("user.sign_up", "success", None, {}),
    ),
    "log in": (lambda cast: cast.log_in(PASSWORD), ("login", "success", None, {"session": "a session"})),
    "guess": (lambda cast: cast.log_in("a wrong guess"), ("login", "failure", None, {})),
    "log out": (
        lambda cast: cast.alice.post("/logout"),
        ("session.end", "success", "alice", {"session": "a session", "reason": "logout"}),
    ),
    "log out everywhere": (
        lambda cast: cast.alice.post("/logout", json={"everywhere": True}),
        ("session.end_all", "success", "alice", {"count": 2, "reason": "logout"}),
    ),
    "end a session": (
        lambda cast: cast.phone.delete(f"/sessions/{cast.session}"),
        ("session.end", "success", "alice", {"session": "a session", "reason": "ended_by_user"}),
    ),
    "end the others": (
        lambda cast: cast.phone.delete("/sessions"),
        ("session.end_all", "success", "alice", {"count": 1, "reason": "ended_by_user"}),
    ),
    "change the password": (
        lambda cast: cast.alice.post("/password", json={"current_password": PASSWORD, "new_password": NEW_PASSWORD}),
        ("password.change", "success", "alice", {}),
    ),
    "replace": (
        lambda cast: cast.alice.put(f"/users/{cast.alice.id}", json=sign_up_body(password=NEW_PASSWORD)),
        ("user.update", "success", "alice", {"changed": ["password", "username"]}),
    ),
    "change": (
        lambda cast: cast.alice.patch(f"/users/{cast.alice.id}", json=CHANGES),
        ("user.update", "success", "alice", {"changed": ["age", "mobile", "username"]}),
    ),
    "change as an admin": (
        lambda cast: cast.admin.patch(f"/users/{cast.alice.id}", json={"info": {"age": 30}}),
        ("user.update", "success", "admin", {"changed": ["age"]}),
    ),
    "delete": (
        lambda cast: cast.alice.delete(f"/users/{cast.alice.id}"),
        ("user.delete", "success", "alice", {}),
    ),
    "delete as an admin": (
        lambda cast: cast.admin.delete(ADMIN.format(cast.alice.id)),
        ("user.delete", "success", "admin", {}),
    ),
    "block": (
        lambda cast: cast.admin.post(ADMIN.format(cast.alice.id) + "/block"),
        ("user.block", "success", "admin", {}),
    ),
    "unblock": (
        lambda cast: cast.admin.post(ADMIN.format(cast.alice.id) + "/unblock"),
        ("user.unblock", "success", "admin", {}),
    ),
    "promote": (
        lambda cast: cast.admin.put(ADMIN.format(cast.alice.id) + "/role", json={"role": "admin"}),
        ("user.change_role", "success", "admin", {"before": "user", "after": "admin"}),
    ),
    "end sessions as an admin": (
        lambda cast: cast.admin.delete(ADMIN.format(cast.alice.id) + "/sessions"),
        ("session.end_all", "success", "admin", {"count": 2, "reason": "ended_by_admin"}),
    ),
    "use a refresh token twice": (
        lambda cast: cast.reuse(),
        ("refresh_token.reuse", "failure", "alice", {"session": "a session", "cause": "grace_over"}),
    ),
    "revoke by a service": (
        lambda cast: cast.revoke(),
        ("session.end", "success", None, {"session": "a session", "reason": "revoked_by_client", "client": "service"}),
    ),
    "guess a service's secret": (
        lambda cast: cast.revoke(basic(cast.service_id, "a wrong guess")),
        ("client.authenticate", "failure", None, {"client": "service"}),
    ),
}

pytestmark = pytest.mark.settings(
    JWT_REFRESH_ROTATION=True, REFRESH_REUSE="grace", REFRESH_REUSE_GRACE=0, FAILED_LOGIN_ALLOWANCE=100
)


@pytest.fixture
def new_cast(app: Flask, people: People) -> Callable[[], Cast]:
    admin = people.admin()
    with app.app_context():
        service, secret = add_client("a service", SCOPES)

    def make() -> Cast:
        alice = people.sign_up()
        return Cast(people, admin, alice, people.log_in(alice.username), basic(service.id, secret), service.id)

    return make


def rows(app: Flask, table: str = "audit_events", order: str = "id") -> list[dict[str, Any]]:
    with app.app_context():
        return [dict(row) for row in db.session.execute(text(f"SELECT * FROM {table} ORDER BY {order}")).mappings()]


def events(person: Person, **query: Any) -> list[dict[str, Any]]:
    response = person.get(f"/audit?{urlencode(query)}")
    assert response.status_code == 200, response.text
    listed: list[dict[str, Any]] = response.get_json()["data"]["data"]
    return listed


def told(row: dict[str, Any], cast: Cast) -> tuple[str, str, str | None, dict[str, Any]]:
    """Return event, outcome, actor and detail of a row, with names in place of ids."""
    detail = json.loads(row["detail"])
    named = detail | ({"session": "a session"} if len(detail.get("session", "")) == 32 else {})
    named |= {"client": "service"} if detail.get("client") == cast.service_id else {}
    actors = {None: None, cast.admin.id: "admin", cast.alice.id: "alice"}
    return row["event"], row["outcome"], actors[row["actor_id"]], named


def test_every_act_leaves_its_event(app: Flask, new_cast: Callable[[], Cast]) -> None:
    """L3, L2: one event with subject, actor, address and request id. Z5: acts of admins as well."""
    for name, (act, expected) in ACTS.items():
        cast = new_cast()
        before = len(rows(app))
        response = act(cast)
        added = rows(app)[before:]
        assert [told(row, cast) for row in added] == [expected], name
        assert added[0]["address"] == "127.0.0.0/24"
        assert added[0]["request_id"] == response.headers["X-Request-ID"]
        subjects = {"sign up": response.get_json()["data"].get("id"), "guess a service's secret": None}
        assert added[0]["subject_id"] == subjects.get(name, cast.alice.id)


def test_what_cannot_be_told_is_not_done(app: Flask, new_cast: Callable[[], Cast]) -> None:
    """L3: the event and the change share one transaction. Here the audit's head is missing."""
    for name, (act, _) in ACTS.items():
        cast = new_cast()
        cast.session  # noqa: B018 (a read that is part of an act)
        with app.app_context():
            events, head = read_audit()
            write_audit(events)
        before = [rows(app, table) for table in ("users", "sessions", "audit_events")]
        assert act(cast).status_code == 500, name
        if name != "use a refresh token twice":  # it rotates the token first, which is not an event
            assert [rows(app, table) for table in ("users", "sessions", "audit_events")] == before, name
        with app.app_context():
            write_audit(events, head)


def write(app: Flask, statement: str, **values: Any) -> None:
    with app.app_context():
        db.session.execute(text(statement), values)
        db.session.commit()


def test_what_is_refused_or_changes_nothing_leaves_no_event(app: Flask, people: People) -> None:
    alice, bob = people.sign_up("alice-liddell"), people.sign_up()
    before = rows(app)
    bob.patch(f"/users/{bob.id}", json={"username": "alice-liddell"})
    bob.patch(f"/users/{bob.id}", json={"info": {"age": 18}})
    bob.patch(f"/users/{alice.id}", json=CHANGES)
    bob.get("/users/")
    people.client.post("/api/v1/users/", json=sign_up_body("alice-liddell"))
    assert rows(app) == before


def test_the_events_of_a_deleted_user_stay(new_cast: Callable[[], Cast]) -> None:
    """L3."""
    cast = new_cast()
    cast.alice.delete(f"/users/{cast.alice.id}")
    listed = events(cast.admin, user_id=cast.alice.id)
    assert [event["event"] for event in listed] == ["user.delete", "login", "user.sign_up"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET outcome = 'success'",
        "UPDATE audit_events SET id = id + 1000 WHERE event = 'login'",
        "DELETE FROM audit_events",
        "DELETE FROM audit_events WHERE event = 'login'",
    ],
)
def test_the_database_itself_refuses_to_change_an_event(app: Flask, people: People, statement: str) -> None:
    """L3: for every client of the database."""
    people.client.post("/api/v1/login", json={"username": people.sign_up().username, "password": "wrong"})
    before = rows(app)
    with pytest.raises(DBAPIError, match="append-only"):
        write(app, statement)
    assert rows(app) == before


def test_one_reads_ones_own_events_and_nobody_elses(people: People) -> None:
    """Z1, Z3: including events that others caused, such as a failed login."""
    alice, bob = people.sign_up(), people.sign_up()
    people.client.post("/api/v1/login", json={"username": alice.username, "password": "wrong"})
    bob.post("/logout")
    listed = events(alice)
    assert [(event["event"], event["outcome"]) for event in listed] == [
        ("login", "failure"),
        ("user.sign_up", "success"),
    ]
    assert all(set(event) == EVENT and event["subject_id"] == alice.id for event in listed)
    assert events(alice, user_id=alice.id) == listed


def test_the_events_of_others_are_for_admins(people: People) -> None:
    """Z1: identical bytes, whether the user exists or not."""
    admin, alice, bob = people.admin(), people.sign_up(), people.sign_up()
    existing, missing = (bob.get(f"/audit?user_id={user_id}") for user_id in (alice.id, 2**53))
    assert existing.status_code == missing.status_code == 403
    assert existing.data == missing.data
    assert {event["subject_id"] for event in events(admin)} == {admin.id, alice.id, bob.id}
    assert {event["subject_id"] for event in events(admin, user_id=alice.id)} == {alice.id}
    assert events(admin, user_id=2**53) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 6, 7, 100])
@pytest.mark.stores("sqlite", "mariadb")
def test_pages_hold_every_event_once(people: People, limit: int) -> None:
    """Events may be added meanwhile. The last page has no cursor, whether it is full or not."""
    alice = people.sign_up()
    for _ in range(5):
        people.log_in(alice.username)
    expected, listed, query = events(alice), [], {"limit": limit}
    while True:
        page = alice.get(f"/audit?{urlencode(query)}").get_json()["data"]
        assert 1 <= len(page["data"]) <= limit
        listed += page["data"]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
        people.log_in(alice.username)
    assert listed == expected
    assert len(listed) == 6


BAD = [
    "unknown=1", "limit=1&limit=1", "limit=", "limit=0", "limit=101", "limit=-1", "limit=1e3", "limit=%D9%A3",
    "limit=%00", "limit=" + "9" * 10_000, "cursor=", "cursor=0", "cursor=-1", "cursor=1.5", "cursor=abc",
    "cursor=1&cursor=2", "cursor=9223372036854775808", "cursor=" + "9" * 10_000, "user_id=", "user_id=0", "user_id=-1",
    "user_id=%00", "user_id=%D9%A3", "user_id=9223372036854775808", "user_id=me", "event=login", "a" * 10_000 + "=1",
]  # fmt: skip


def test_a_bad_parameter_is_refused(people: People) -> None:
    """I1, I2: with the same response on every store."""
    admin = people.admin()
    answers = {query: admin.get(f"/audit?{query}") for query in BAD}
    assert {query[:60]: answer.status_code for query, answer in answers.items() if answer.status_code != 400} == {}
    assert {answer.get_json()["error"]["type"] for answer in answers.values()} == {"invalid_body"}


def test_the_largest_numbers_are_no_bad_ones(people: People) -> None:
    """Ids go up to 2**63 - 1, as the OpenAPI document states."""
    admin = people.admin()
    assert events(admin, user_id=2**63 - 1) == []
    assert events(admin, cursor=2**63 - 1) == events(admin)
