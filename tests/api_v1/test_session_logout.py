"""Logout ends the session with any token of it, also an expired one, and with nothing else."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from flask import Flask

from apps.extensions import db
from apps.models import Session
from tests.support.forge import ABSENT, REFUSAL, altered, claims_of, headed, verdict
from tests.support.people import People, Person

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
AFTER_ACCESS, AFTER_REFRESH = timedelta(minutes=3), timedelta(minutes=6)  # lifetimes: 2 and 5 minutes
EMPTY = [b"", b"null", b" null\r\n", b"\xef\xbb\xbfnull", b"{}", b" ", b"\n"]
JSON = "application/json"


def reason(app: Flask, person: Person) -> str | None:
    """Return why the session of a person ended, or None if it goes on."""
    with app.app_context():
        return db.session.get_one(Session, claims_of(person.access_token)["sid"]).revoke_reason


@pytest.mark.parametrize("kind", ["access", "refresh"])
@pytest.mark.parametrize("after", [timedelta(0), AFTER_ACCESS, AFTER_REFRESH, timedelta(days=2)])
def test_either_token_ends_its_session_also_after_it_expired(
    app: Flask, people: People, kind: str, after: timedelta
) -> None:
    """T6, R6: and no other session. A client that returns after a while must not stay logged in."""
    with time_machine.travel(START, tick=False) as time:
        alice, other = people.sign_up("alice-liddell"), people.log_in("alice-liddell")
        time.shift(after)
        token = alice.access_token if kind == "access" else alice.refresh_token
        assert alice.post("/logout", token=token).get_json() == {
            "code": 200,
            "data": {},
            "message": "SUCCESS",
            "state": 0,
        }
        assert verdict(alice.refresh()) == verdict(alice.get("/users/")) == REFUSAL
    assert (reason(app, alice), reason(app, other)) == ("logout", None)


@pytest.mark.stores("sqlite", "postgresql")
def test_an_expired_token_opens_nothing_else(people: People) -> None:
    """T5: a logout that was refused or that has verified the token changes nothing about that."""
    with time_machine.travel(START, tick=False) as time:
        alice = people.sign_up()
        time.shift(AFTER_ACCESS)
        assert alice.post("/logout", json={"everywhere": "?"}).status_code == 400
        answers = [alice.get("/users/"), alice.delete("/sessions"), alice.post("/refresh")]
        assert [verdict(answer) for answer in answers] == [REFUSAL] * 3
        assert alice.refresh().status_code == 200


@pytest.mark.settings(JWT_REFRESH_ROTATION=True)
@pytest.mark.stores("sqlite", "postgresql")
def test_a_retired_refresh_token_logs_out(app: Flask, people: People) -> None:
    """R1, R6: the session ends, and no reuse is reported. A client that lost the answer to a refresh has no other."""
    alice = people.sign_up()
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=1)):
        assert alice.refresh().status_code == 200
    assert alice.post("/logout", token=alice.refresh_token).status_code == 200
    assert reason(app, alice) == "logout"


@pytest.mark.parametrize("kind", ["access", "refresh"])
@pytest.mark.parametrize("after", [timedelta(0), AFTER_ACCESS])
@pytest.mark.stores("sqlite", "postgresql")
def test_everywhere_ends_all_sessions_also_by_an_expired_token(
    app: Flask, people: People, kind: str, after: timedelta
) -> None:
    """R6."""
    with time_machine.travel(START, tick=False) as time:
        alice, other = people.sign_up("alice-liddell"), people.log_in("alice-liddell")
        time.shift(after)
        token = alice.access_token if kind == "access" else alice.refresh_token
        assert alice.post("/logout", token=token, json={"everywhere": True}).status_code == 200
    assert reason(app, alice) == reason(app, other) == "logout"


@pytest.mark.stores("sqlite", "postgresql")
def test_a_session_that_is_over_has_no_power_over_the_others(app: Flask, people: People) -> None:
    """R6: an old token, from a log perhaps, ends no session but its own."""
    with time_machine.travel(START, tick=False) as time:
        old = people.sign_up("alice-liddell")
        time.shift(timedelta(minutes=5 + 2) + timedelta(seconds=10))  # refresh and access token, leeway
        live = people.log_in("alice-liddell")
        for token in (old.access_token, old.refresh_token):
            assert verdict(old.post("/logout", token=token, json={"everywhere": True})) == REFUSAL
        assert live.get("/users/").status_code == 200
        assert old.post("/logout").status_code == 200
    assert (reason(app, old), reason(app, live)) == ("logout", None)


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.stores("sqlite", "postgresql")
def test_a_session_that_was_ended_is_refused(app: Flask, people: People, everywhere: bool) -> None:
    """T13, Z4: as everywhere, with a good or an expired token. The first reason stays, and no other session ends."""
    with time_machine.travel(START, tick=False) as time:
        admin = people.admin()
        left, blocked, deleted = people.sign_up("alice-liddell"), people.sign_up(), people.sign_up()
        live = people.log_in("alice-liddell")
        left.post("/logout")
        admin.post(f"/admin/users/{blocked.id}/block")
        deleted.delete(f"/users/{deleted.id}")
        for _ in range(2):
            for person in (left, blocked, deleted):
                for token in (person.access_token, person.refresh_token):
                    answer = person.post("/logout", token=token, json={"everywhere": everywhere})
                    assert verdict(answer) == REFUSAL
            time.shift(AFTER_ACCESS)
    assert (reason(app, left), reason(app, blocked), reason(app, live)) == ("logout", "blocked", None)


@pytest.mark.stores("sqlite")
def test_a_token_with_another_fault_logs_nobody_out(app: Flask, people: People) -> None:
    """T1, T5, T7: expiry alone is forgiven."""
    with time_machine.travel(START, tick=False) as time:
        alice = people.sign_up()
        time.shift(AFTER_ACCESS)
        now, token = int(datetime.now(UTC).timestamp()), alice.access_token
        bad = {
            "signature": token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB"),
            "issuer": altered(token, iss="another"),
            "audience": altered(token, aud="another"),
            "type": altered(token, type="id"),
            "no expiry": altered(token, exp=ABSENT),
            "not yet valid": altered(token, nbf=now + 60, iat=now + 60, exp=now + 100),
            "too long": altered(token, exp=claims_of(token)["iat"] + 121),
            "another user": altered(token, sub=str(alice.id + 1)),
            "another session": altered(token, sid="0" * 32),
            "algorithm": headed(token, alg="none"),
            "a header member": headed(token, kid="x"),
            "none": "x",
        }
        odd = [name for name in bad if verdict(alice.post("/logout", token=bad[name])) != REFUSAL]
        assert odd == []
        assert alice.refresh().status_code == 200
    assert reason(app, alice) is None


@pytest.mark.parametrize("body", EMPTY)
@pytest.mark.stores("sqlite")
def test_an_empty_body_or_null_logs_out(people: People, body: bytes) -> None:
    """I2: for a logout. A change needs its fields."""
    alice = people.sign_up()
    patched = alice.patch(f"/users/{alice.id}", data=body, content_type=JSON)
    assert patched.status_code == (200 if body == b"{}" else 400)
    assert alice.post("/logout", data=body, content_type=JSON).status_code == 200
    assert alice.refresh().status_code == 401


@pytest.mark.parametrize(
    "body", [b"nul", b"null null", b'"null"', b"NULL", b"[null]", b"false", b"0", b"\xef\xbb\xbf\xef\xbb\xbf"]
)
@pytest.mark.stores("sqlite")
def test_no_other_value_counts_as_empty(people: People, body: bytes) -> None:
    """I2."""
    alice = people.sign_up()
    for answer in (
        alice.patch(f"/users/{alice.id}", data=body, content_type=JSON),
        alice.post("/logout", data=body, content_type=JSON),
        alice.post("/login", data=b"null", content_type=JSON),
    ):
        assert (answer.status_code, answer.get_json()["error"]["type"]) == (400, "invalid_body")
