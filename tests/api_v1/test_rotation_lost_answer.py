"""A lost answer to a refresh: the retired token gets its successor again, until that is used."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
import time_machine
from flask import Flask
from sqlalchemy import bindparam, text
from werkzeug.test import TestResponse

from apps.extensions import db
from apps.models import Session
from apps.models.base import UtcDateTime
from tests.support.forge import REFUSAL, claims_of, verdict
from tests.support.people import People, Person, bearer
from tests.support.settings import change_settings

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
METRICS_TOKEN = "test-metrics-token-of-the-suite-only"
ROTATING: dict[str, Any] = {
    "JWT_REFRESH_ROTATION": True,
    "JWT_REFRESH_TOKEN_EXPIRES": timedelta(days=60),
    "SESSION_LIFETIME": timedelta(days=90),
}
FEW = pytest.mark.stores("sqlite", "postgresql")

pytestmark = pytest.mark.settings(**ROTATING)


def refresh(person: Person, token: str, agent: str = "Firefox/145") -> TestResponse:
    return person.post("/refresh", token=token, headers={"User-Agent": agent})


def lose(person: Person) -> tuple[str, str]:
    """Refresh and lose the answer. Return the retired token and the successor, which the client does not have."""
    answer = refresh(person, person.refresh_token)
    assert answer.status_code == 200, answer.text
    return person.refresh_token, answer.get_json()["data"]["refresh_token"]


def row(app: Flask, person: Person) -> Session:
    with app.app_context():
        return db.session.get_one(Session, claims_of(person.access_token)["sid"])


def state(app: Flask, person: Person) -> tuple[int, str | None]:
    session = row(app, person)
    return session.refresh_generation, session.revoke_reason


@pytest.mark.parametrize("after", [timedelta(0), 11 * SECOND, timedelta(hours=1), DAY - SECOND])
def test_a_client_that_lost_the_answer_gets_it_again(app: Flask, people: People, after: timedelta) -> None:
    """R3: the same successor, which goes on as usual. A new access token comes with it."""
    with time_machine.travel(START, tick=False) as time:
        alice = people.sign_up()
        retired, successor = lose(alice)
        time.shift(after)
        data = refresh(alice, retired).get_json()["data"]
        assert data["refresh_token"] == successor
        assert alice.get("/users/", token=data["access_token"]).status_code == 200
        assert state(app, alice) == (1, None)
        assert refresh(alice, successor).status_code == 200
        assert state(app, alice) == (2, None)


@FEW
@pytest.mark.settings(**ROTATING, REFRESH_REUSE_WINDOW=3600)
@pytest.mark.parametrize(("seconds", "status"), [(3599, 200), (3600, 401), (86_400, 401), (-3599, 200), (-3600, 401)])
def test_the_window_bounds_it(app: Flask, people: People, seconds: int, status: int) -> None:
    """R3, V7: on both sides, because a clock that steps back must not prolong it."""
    change_settings(app, JWT_LEEWAY=timedelta(hours=2))
    with time_machine.travel(START, tick=False) as time:
        alice = people.sign_up()
        retired, _ = lose(alice)
        time.shift(seconds)
        assert refresh(alice, retired).status_code == status
        assert state(app, alice) == (1, None if status == 200 else "refresh_token_reused")


@FEW
def test_a_retry_does_not_prolong_the_window(app: Flask, people: People) -> None:
    """R3: it counts from the refresh, of which the answer was lost."""
    with time_machine.travel(START, tick=False) as time:
        alice = people.sign_up()
        retired, _ = lose(alice)
        for hours in (12, 11):
            time.shift(timedelta(hours=hours))
            assert refresh(alice, retired).status_code == 200
        time.shift(timedelta(hours=1))
        assert verdict(refresh(alice, retired)) == REFUSAL
        assert state(app, alice) == (1, "refresh_token_reused")


@pytest.mark.parametrize("after", [timedelta(0), 11 * SECOND])
def test_once_the_successor_was_refreshed_with_the_session_ends(app: Flask, people: People, after: timedelta) -> None:
    """R1: two parties hold the token, also within the grace and from the same User-Agent."""
    with time_machine.travel(START, tick=False) as time:
        alice = people.sign_up()
        retired, successor = lose(alice)
        time.shift(11 * SECOND)
        last = refresh(alice, successor).get_json()["data"]["refresh_token"]
        time.shift(after)
        assert verdict(refresh(alice, retired)) == verdict(refresh(alice, last)) == REFUSAL
        assert state(app, alice) == (2, "refresh_token_reused")


@FEW
@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("Firefox/145", "Firefox/145", True),
        ("", "", True),
        ("Firefox/145", "Firefox/146", False),
        ("Firefox/145", "", False),
        ("", "curl/8", False),
        ("a" * 300, "a" * 300, True),
    ],
)
def test_only_the_user_agent_that_refreshed_gets_it_again(
    app: Flask, people: People, first: str, second: str, is_same: bool
) -> None:
    """R3: within the grace any may, because a browser may have updated itself."""
    with time_machine.travel(START, tick=False) as time:
        alice = people.sign_up()
        successor = refresh(alice, alice.refresh_token, first).get_json()["data"]["refresh_token"]
        assert refresh(alice, alice.refresh_token, second).get_json()["data"]["refresh_token"] == successor
        time.shift(11 * SECOND)
        answer = refresh(alice, alice.refresh_token, second)
        assert answer.status_code == (200 if is_same else 401)
        assert state(app, alice) == (1, None if is_same else "refresh_token_reused")


def test_a_rotation_by_an_earlier_release_is_not_forgiven(app: Flask, people: People) -> None:
    """R3: it leaves the User-Agent of an earlier refresh, or none, in the row."""
    old = text(
        "UPDATE sessions SET refresh_generation = refresh_generation + 1, rotate_time = :time, version = version + 1"
        " WHERE id = :id"
    ).bindparams(bindparam("time", type_=UtcDateTime))
    for rotations in (0, 1):
        with time_machine.travel(START, tick=False) as time:
            alice = people.sign_up()
            for _ in range(rotations):
                alice.refresh_token = refresh(alice, alice.refresh_token).get_json()["data"]["refresh_token"]
            with app.app_context():
                values = {"time": START, "id": claims_of(alice.access_token)["sid"]}
                db.session.execute(old, values)
                db.session.commit()
            time.shift(9 * SECOND)
            assert refresh(alice, alice.refresh_token).status_code == 200
            time.shift(2 * SECOND)
            assert verdict(refresh(alice, alice.refresh_token)) == REFUSAL
            assert state(app, alice) == (rotations + 1, "refresh_token_reused")


def at_once(*acts: Callable[[], TestResponse]) -> list[TestResponse]:
    barrier = Barrier(len(acts))

    def run(act: Callable[[], TestResponse]) -> TestResponse:
        barrier.wait()
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


@pytest.mark.settings(**ROTATING, REFRESH_REUSE_GRACE=0)
def test_the_row_decides_whether_the_successor_was_used_first(app: Flask, people: People) -> None:
    """R2, R3: with the retired token and the successor at once, either both were in time or the session ends."""
    for _ in range(8):
        alice = people.sign_up()
        retired, successor = lose(alice)

        def send(token: str) -> Callable[[], TestResponse]:
            headers = bearer(token) | {"User-Agent": "Firefox/145"}
            return lambda: app.test_client().post("/api/v1/refresh", headers=headers)

        first, second, used = at_once(send(retired), send(retired), send(successor))
        retries = sorted(answer.status_code for answer in (first, second))
        if retries == [200, 200]:
            assert used.status_code == 200
            assert state(app, alice) == (2, None)
        else:
            assert state(app, alice)[1] == "refresh_token_reused"
        again = {a.get_json()["data"]["refresh_token"] for a in (first, second) if a.status_code == 200}
        assert again <= {successor}


def counted(people: People) -> dict[str, float]:
    lines = people.client.get("/metrics", headers=bearer(METRICS_TOKEN)).text
    found = re.findall(r'^gatehouse_retired_refresh_tokens_total\{cause="(\w+)"\} (\S+)$', lines, re.MULTILINE)
    return {cause: float(count) for cause, count in found if float(count)}


# {cause: (settings, seconds until the retired token is used, its User-Agent, was the successor used?)}
CAUSES: dict[str, tuple[dict[str, Any], int, str, bool]] = {
    "within_grace": ({}, 5, "curl/8", False),
    "successor_unused": ({}, 11, "Firefox/145", False),
    "successor_used": ({}, 5, "Firefox/145", True),
    "grace_over": ({"REFRESH_REUSE": "grace"}, 11, "Firefox/145", False),
    "window_over": ({"REFRESH_REUSE_WINDOW": timedelta(0)}, 11, "Firefox/145", False),
    "other_user_agent": ({}, 11, "curl/8", False),
}


@FEW
@pytest.mark.settings(**ROTATING, METRICS_TOKEN=METRICS_TOKEN)
@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_is_an_audit_event_and_a_metric(app: Flask, people: People, cause: str) -> None:
    """R1, L3: with the outcome, once for each use. A usual refresh is neither."""
    given, seconds, agent, is_used = CAUSES[cause]
    change_settings(app, **given)
    with time_machine.travel(START, tick=False) as time:
        alice = people.sign_up("alice-liddell")
        retired, successor = lose(alice)
        if is_used:
            assert refresh(alice, successor).status_code == 200
        assert counted(people) == {}
        time.shift(seconds)
        status = refresh(alice, retired, agent).status_code
        events = people.log_in("alice-liddell").get("/audit").get_json()["data"]["data"]
    is_good = cause in ("within_grace", "successor_unused")
    found = [(event["event"], event["outcome"], event["detail"]) for event in events if "refresh_" in event["event"]]
    detail = {"session": claims_of(retired)["sid"], "cause": cause}
    expected = ("refresh_token.retry", "success", detail) if is_good else ("refresh_token.reuse", "failure", detail)
    assert found == [expected]
    assert (status, counted(people)) == (200 if is_good else 401, {cause: 1})
