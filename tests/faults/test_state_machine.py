"""N3: whatever users and thieves do, in any order and at the same time, nothing is orphaned, revived or lost.

Hypothesis plays sign-ups, logins, refreshes (with current and retired tokens), logouts, new passwords and deletions,
alone and in bursts of threads on one user. The invariants are read in SQL, beside the service.
"""

import threading
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from flask import Flask
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from apps.extensions import db
from apps.services import audit
from tests.support.people import PASSWORD, People, Person

ACTS: dict[str, Callable[[Person], Any]] = {
    "read": lambda person: person.get("/users/"),
    "refresh": lambda person: person.refresh(),
    "update": lambda person: person.patch(f"/users/{person.id}", json={"info": {"age": 40}}),
    "log out": lambda person: person.post("/logout"),
    "log out everywhere": lambda person: person.post("/logout", json={"everywhere": True}),
    "change password": lambda person: person.post(
        "/password", json={"current_password": PASSWORD, "new_password": PASSWORD + "!"}
    ),
    "log in": lambda person: person.client.post(
        "/api/v1/login", json={"username": person.username, "password": PASSWORD}
    ),
    "delete": lambda person: person.delete(f"/users/{person.id}"),
}
ALLOWED = {200, 401, 404, 409}  # 404: deleted between the look at the token and the act


def machine(app: Flask) -> type[RuleBasedStateMachine]:  # noqa: C901 (one class)
    class Accounts(RuleBasedStateMachine):
        people = Bundle("people")

        def __init__(self) -> None:
            super().__init__()
            self.use = People(app.test_client())
            self.dead: set[int] = set()

        @rule(target=people)
        def sign_up(self) -> Person:
            return self.use.sign_up()

        @rule(target=people, person=people)
        def log_in(self, person: Person) -> Any:
            response = ACTS["log in"](person)
            assert response.status_code in ({401} if person.id in self.dead else {200, 401})
            if response.status_code != 200:
                return multiple()
            data = response.get_json()["data"]
            return Person(person.client, data["id"], person.username, data["access_token"], data["refresh_token"])

        @rule(person=people)
        def refresh_keeping_the_old_token(self, person: Person) -> None:
            assert person.refresh().status_code in ALLOWED

        @rule(person=people)
        def refresh_taking_the_new_token(self, person: Person) -> None:
            response = person.refresh()
            if response.status_code == 200:
                person.refresh_token = response.get_json()["data"]["refresh_token"]

        @rule(person=consumes(people))
        def log_out(self, person: Person) -> None:
            person.post("/logout")
            assert person.get("/users/").status_code == 401
            assert person.refresh().status_code == 401

        @rule(person=people)
        def delete(self, person: Person) -> None:
            if person.delete(f"/users/{person.id}").status_code == 200:
                self.dead.add(person.id)

        @rule(person=people, acts=st.lists(st.sampled_from(sorted(ACTS)), min_size=2, max_size=5))
        def do_at_the_same_time(self, person: Person, acts: list[str]) -> None:
            statuses = _together(app, person, acts)
            assert set(statuses) <= ALLOWED, dict(zip(acts, statuses, strict=True))
            if any(act == "delete" and status == 200 for act, status in zip(acts, statuses, strict=True)):
                self.dead.add(person.id)

        @rule(person=people)
        def the_deleted_stay_deleted(self, person: Person) -> None:
            if person.id in self.dead:
                assert person.get("/users/").status_code == person.refresh().status_code == 401

        @invariant()
        def the_tables_agree(self) -> None:
            with app.app_context():
                orphans = "SELECT count(*) FROM sessions WHERE user_id NOT IN (SELECT id FROM users)"
                revoked_without_reason = (
                    "SELECT count(*) FROM sessions WHERE (revoke_time IS NULL) <> (revoke_reason IS NULL)"
                )
                rotated_without_time = (
                    "SELECT count(*) FROM sessions WHERE (refresh_generation = 0) <> (rotate_time IS NULL)"
                )
                for query in (orphans, revoked_without_reason, rotated_without_time):
                    assert db.session.scalar(text(query)) == 0, query
                ids = ", ".join(map(str, self.dead)) or "0"
                assert db.session.scalar(text(f"SELECT count(*) FROM users WHERE id IN ({ids})")) == 0
                db.session.rollback()

        def teardown(self) -> None:
            with app.app_context():
                audit.verify()

    return Accounts


def _together(app: Flask, person: Person, acts: list[str]) -> list[int]:
    """Do the acts in as many threads, released at once, and return their statuses in order."""
    barrier, statuses = threading.Barrier(len(acts)), [0] * len(acts)

    def do(index: int, act: str) -> None:
        mine = Person(app.test_client(), person.id, person.username, person.access_token, person.refresh_token)
        barrier.wait()
        statuses[index] = ACTS[act](mine).status_code

    threads = [threading.Thread(target=do, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


@pytest.mark.stores("postgresql", "mariadb")
@pytest.mark.settings(JWT_REFRESH_ROTATION=True, REFRESH_REUSE_GRACE=1, FAILED_LOGIN_ALLOWANCE=100)
def test_nothing_is_orphaned_revived_or_lost(app: Flask) -> None:
    """N3, R1, R2, L3."""
    few = settings(
        max_examples=6,
        stateful_step_count=15,
        deadline=None,
        phases=[Phase.generate],  # threads do not repeat themselves, so there is nothing to shrink
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine(app), settings=few)
