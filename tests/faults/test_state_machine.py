"""N3: whatever users, thieves and admins do, in any order and concurrently, nothing is orphaned, revived or lost.

Hypothesis chooses the acts. After each one, the test compares the tables, by SQL, with a model of every account and
session (`accounts.py`), and requires 401 for the tokens of ended sessions. For a burst of threads on one session, the
model knows what must have ended in any order. Only the outcome of a login within a burst is read from the tables.
"""

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from flask import Flask
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import text
from werkzeug.test import TestResponse

from apps.extensions import db
from apps.services import audit
from tests.faults.accounts import Account, Login, stored
from tests.faults.test_session_races import at_once
from tests.support.people import PASSWORD, People, Person
from tests.support.settings import change_settings

ACTS = ["read", "refresh", "update", "log out", "log out everywhere", "change password", "log in", "block", "delete"]
ALLOWED = {200, 401, 404, 409}  # 404: deleted between the check of the token and the act
END_ALL = {"log out everywhere", "block", "delete"}
SHUT_OUT = {"change password", "block", "delete"}  # they end an earlier login and refuse a later one


# What is drawn does not depend on the state: threads change it differently in each run, which Hypothesis refuses.
NUMBERED = st.tuples(st.runner(), st.integers(0, 9_999))
ANY = NUMBERED.map(lambda drawn: one_of(drawn[0].logins, drawn[1]))
LIVE = NUMBERED.map(lambda drawn: one_of(drawn[0].live_logins(), drawn[1]))


class Machine(RuleBasedStateMachine):
    """The acts, and their effects on the model."""

    def __init__(self, app: Flask, reuse: str) -> None:
        super().__init__()
        self.app, self.is_lenient = app, reuse == "until_successor_used"
        self.use = People(app.test_client())
        self.admin = self.use.admin()
        self.accounts: list[Account] = []
        self.checked: set[Login] = set()  # ended, and their tokens were checked

    @property
    def logins(self) -> list[Login]:
        return [login for account in self.accounts for login in account.logins]

    def live_logins(self) -> list[Login]:
        """Return the live sessions. If there is none, sign up a new user first."""
        if not any(login.is_alive for login in self.logins):
            self.sign_up()
        return [login for login in self.logins if login.is_alive]

    @initialize()
    def begin(self) -> None:
        self.sign_up()
        self.log_in(self.logins[0])

    @rule()
    def sign_up(self) -> None:
        person = self.use.sign_up()
        self.accounts.append(Account(person.id, person.username))
        self.accounts[-1].add(person)

    @rule(login=ANY)
    def log_in(self, login: Login) -> None:
        response = enter(login.account, login.person)
        may_enter = not (login.account.is_blocked or login.account.is_deleted)
        assert response.status_code == (200 if may_enter else 401)
        if may_enter:
            login.account.add(entered(login.person, response))

    @rule(login=ANY, act=st.sampled_from(sorted({*ACTS} - {"log in", "block"})))
    def act(self, login: Login, act: str) -> None:
        """Act on a session; the tokens of an ended one are refused."""
        response = self.acts(login.account)["read" if login.is_alive else act](login.person)
        assert response.status_code == (200 if login.is_alive else 401)

    @rule(login=LIVE)
    def refresh(self, login: Login) -> None:
        response = login.person.refresh()
        assert response.status_code == 200
        login.rotate(response)
        assert login.person.get("/users/", token=response.get_json()["data"]["access_token"]).status_code == 200

    @rule(login=LIVE, age=st.integers(1, 3), is_thief=st.booleans())
    def use_a_retired_token(self, login: Login, age: int, is_thief: bool) -> None:
        """Use a retired token, also from another User-Agent. Only the parent of the unused current one may be good."""
        if not login.retired:
            self.refresh(login)
        token = login.retired[-age:][0]
        response = login.person.post("/refresh", token=token, headers={"User-Agent": "thief"} if is_thief else {})
        if self.is_lenient and token == login.retired[-1] and not is_thief:
            assert response.get_json()["data"]["refresh_token"] == login.person.refresh_token
        else:
            assert response.status_code == 401
            login.is_alive = False

    @rule(login=LIVE, everywhere=st.booleans())
    def log_out(self, login: Login, everywhere: bool) -> None:
        assert login.person.post("/logout", json={"everywhere": everywhere}).status_code == 200
        login.is_alive = False
        if everywhere:
            login.account.end()

    @rule(login=LIVE)
    def end_the_others(self, login: Login) -> None:
        assert login.person.delete("/sessions").status_code == 200
        login.account.end(but=login)

    @rule(login=LIVE)
    def change_the_password(self, login: Login) -> None:
        assert change_password(login.account, login.person).status_code == 200
        login.account.password = another(login.account.password)
        login.account.end(but=login)

    @rule(login=LIVE)
    def delete(self, login: Login) -> None:
        assert login.person.delete(f"/users/{login.person.id}").status_code == 200
        login.account.is_deleted = True
        login.account.end()

    def manage(self, account: Account, method: str, path: str, **more: Any) -> None:
        response = self.admin.request(method, f"/admin/users/{account.id}{path}", **more)
        assert response.status_code == (404 if account.is_deleted else 200)

    @rule(login=ANY, act=st.sampled_from(["block", "unblock"]))
    def block_or_unblock(self, login: Login, act: str) -> None:
        self.manage(login.account, "POST", f"/{act}")
        login.account.is_blocked = act == "block"
        if login.account.is_blocked:
            login.account.end()

    @rule(login=LIVE)
    def end_all_as_an_admin(self, login: Login) -> None:
        self.manage(login.account, "DELETE", "/sessions")
        login.account.end()

    @rule(login=LIVE, role=st.sampled_from(["user", "admin"]))
    def change_the_role(self, login: Login, role: str) -> None:
        self.manage(login.account, "PUT", "/role", json={"role": role})
        login.account.role = role
        assert login.person.get("/admin/users?limit=1").status_code == (200 if role == "admin" else 403)

    @rule(login=LIVE, acts=st.lists(st.sampled_from(ACTS), min_size=2, max_size=5))
    def do_at_the_same_time(self, login: Login, acts: list[str]) -> None:
        account, known = login.account, self.acts(login.account)
        answers = at_once(self.app, login.person, *(known[act] for act in acts))
        assert {answer.status_code for answer in answers} <= ALLOWED, list(zip(acts, answers, strict=True))
        done = [(act, answer) for act, answer in zip(acts, answers, strict=True) if answer.status_code == 200]
        names = [act for act, _ in done]
        self.apply_burst(login, acts, names)
        refreshed = [answer for act, answer in done if act == "refresh"]
        assert len({answer.get_json()["data"]["refresh_token"] for answer in refreshed}) <= 1
        for answer in refreshed[:1]:
            login.rotate(answer)
        new = [account.add(entered(login.person, answer)) for act, answer in done if act == "log in"]
        if SHUT_OUT & {*names}:
            account.end(but=login)
        elif "log out everywhere" in names:
            account.learn(stored(self.app, account.id), new)
        assert login.person.get("/users/").status_code == (200 if login.is_alive else 401)

    def acts(self, account: Account) -> dict[str, Callable[[Person], TestResponse]]:
        return {
            "read": lambda mine: mine.get("/users/"),
            "refresh": Person.refresh,
            "update": lambda mine: mine.patch(f"/users/{mine.id}", json={"info": {"age": 40}}),
            "log out": lambda mine: mine.post("/logout"),
            "log out everywhere": lambda mine: mine.post("/logout", json={"everywhere": True}),
            "change password": lambda mine: change_password(account, mine),
            "log in": lambda mine: enter(account, mine),
            "block": lambda mine: mine.post(f"/admin/users/{mine.id}/block", token=self.admin.access_token),
            "delete": lambda mine: mine.delete(f"/users/{mine.id}"),
        }

    def apply_burst(self, login: Login, acts: list[str], done: list[str]) -> None:
        """Apply what must hold after a burst, in whichever order its acts ran."""
        assert self.is_lenient or done.count("refresh") <= 1
        if END_ALL & {*done}:
            login.account.end()
        if "change password" in done:
            login.account.password = another(login.account.password)
            login.account.end(but=login)
        if "log out" in done or (acts.count("refresh") > 1 and not self.is_lenient):  # the second used a retired token
            login.is_alive = False
        login.account.is_blocked |= "block" in done
        login.account.is_deleted |= "delete" in done

    @invariant()
    def the_tables_say_what_the_model_says(self) -> None:
        for account in self.accounts:
            assert stored(self.app, account.id) == account.expected

    @invariant()
    def what_ended_is_dead_at_once(self) -> None:
        for login in self.logins:
            if not login.is_alive and login not in self.checked:
                assert [login.person.get("/users/").status_code, login.person.refresh().status_code] == [401, 401]
                self.checked.add(login)

    @invariant()
    def the_tables_agree(self) -> None:
        orphans = "SELECT count(*) FROM sessions WHERE user_id NOT IN (SELECT id FROM users)"
        without_reason = "SELECT count(*) FROM sessions WHERE (revoke_time IS NULL) <> (revoke_reason IS NULL)"
        without_time = "SELECT count(*) FROM sessions WHERE (refresh_generation = 0) <> (rotate_time IS NULL)"
        with self.app.app_context():
            for query in (orphans, without_reason, without_time):
                assert db.session.scalar(text(query)) == 0, query
            db.session.rollback()

    def teardown(self) -> None:
        with self.app.app_context():
            audit.verify()


def one_of(logins: list[Login], number: int) -> Login:
    return logins[number % len(logins)]


def enter(account: Account, person: Person) -> TestResponse:
    return person.client.post("/api/v1/login", json={"username": account.username, "password": account.password})


def entered(person: Person, response: TestResponse) -> Person:
    data = response.get_json()["data"]
    return Person(person.client, person.id, person.username, data["access_token"], data["refresh_token"])


def another(password: str) -> str:
    return PASSWORD if password != PASSWORD else PASSWORD + "!"


def change_password(account: Account, person: Person) -> TestResponse:
    body = {"current_password": account.password, "new_password": another(account.password)}
    return person.post("/password", json=body)


@pytest.mark.stores("postgresql", "mariadb")
@pytest.mark.settings(
    JWT_REFRESH_ROTATION=True, REFRESH_REUSE_GRACE=0, FAILED_LOGIN_ALLOWANCE=100, SESSIONS_PER_USER=1000
)
@pytest.mark.parametrize("reuse", ["grace", "until_successor_used"])
def test_nothing_is_orphaned_revived_or_lost(app: Flask, reuse: str) -> None:
    """N3, R1, R2, R3, R6, L3."""
    change_settings(app, REFRESH_REUSE=reuse)
    few = settings(
        max_examples=8,
        stateful_step_count=20,
        deadline=None,
        phases=[Phase.generate],  # threads are not reproducible, so shrinking is useless
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(lambda: Machine(app, reuse), settings=few)
