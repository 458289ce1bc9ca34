"""Z1, T6: every route, tried by everybody. A route that is added is tried as well, or this fails."""

import itertools
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from apps.forms.urlencoded import UrlEncodedForm
from apps.forms.user import SignUpForm
from apps.http import openapi
from apps.http.contract import Contract, Policy
from apps.http.endpoint import endpoint
from apps.services.client import add_client
from tests.support.people import People, Person, bearer

NAMES = (f"newcomer-{number}" for number in itertools.count())
Route = tuple[str, str]
Asker = Callable[[Contract, Person], dict[str, str]]  # gives the headers by which a person asks

METRICS_TOKEN = "test-metrics-token-of-the-suite-only"
pytestmark = [pytest.mark.stores("sqlite"), pytest.mark.settings(METRICS_TOKEN=METRICS_TOKEN)]

ROUTES = {
    ("GET", "/healthz"): Policy.ANYONE,
    ("GET", "/readyz"): Policy.ANYONE,
    ("GET", "/.well-known/jwks.json"): Policy.ANYONE,
    ("GET", "/metrics"): Policy.MONITOR,
    ("GET", "/api/v1/openapi.json"): Policy.ANYONE,
    ("GET", "/api/v1/docs"): Policy.ANYONE,
    ("GET", "/api/v1/docs/<asset>"): Policy.ANYONE,
    ("POST", "/api/v1/login"): Policy.ANYONE,
    ("POST", "/api/v1/users/"): Policy.ANYONE,
    ("POST", "/api/v1/introspect"): Policy.CLIENT,
    ("POST", "/api/v1/revoke"): Policy.CLIENT,
    ("POST", "/api/v1/logout"): Policy.SELF,
    ("POST", "/api/v1/refresh"): Policy.SELF,
    ("POST", "/api/v1/password"): Policy.SELF,
    ("GET", "/api/v1/audit"): Policy.SELF,
    ("GET", "/api/v1/sessions"): Policy.SELF,
    ("DELETE", "/api/v1/sessions"): Policy.SELF,
    ("DELETE", "/api/v1/sessions/<session:session_id>"): Policy.SELF,
    ("GET", "/api/v1/users/"): Policy.SELF_OR_ADMIN,
    ("GET", "/api/v1/users/<id:user_id>"): Policy.SELF_OR_ADMIN,
    ("PUT", "/api/v1/users/<id:user_id>"): Policy.SELF_OR_ADMIN,
    ("PATCH", "/api/v1/users/<id:user_id>"): Policy.SELF_OR_ADMIN,
    ("DELETE", "/api/v1/users/<id:user_id>"): Policy.SELF_OR_ADMIN,
    ("GET", "/api/v1/users/<id:user_id>/export"): Policy.SELF_OR_ADMIN,
    ("GET", "/api/v1/admin/users"): Policy.ADMIN,
    ("GET", "/api/v1/admin/users/<id:user_id>"): Policy.ADMIN,
    ("DELETE", "/api/v1/admin/users/<id:user_id>"): Policy.ADMIN,
    ("DELETE", "/api/v1/admin/users/<id:user_id>/sessions"): Policy.ADMIN,
    ("POST", "/api/v1/admin/users/<id:user_id>/block"): Policy.ADMIN,
    ("POST", "/api/v1/admin/users/<id:user_id>/unblock"): Policy.ADMIN,
    ("PUT", "/api/v1/admin/users/<id:user_id>/role"): Policy.ADMIN,
}
FRESH = {  # what a thief of an access token must not do
    ("POST", "/api/v1/password"),
    ("DELETE", "/api/v1/users/<id:user_id>"),
    ("GET", "/api/v1/users/<id:user_id>/export"),
    ("DELETE", "/api/v1/admin/users/<id:user_id>"),
}
GUARDED = {route for route, policy in ROUTES.items() if policy not in (Policy.ANYONE, Policy.CLIENT, Policy.MONITOR)}
FOR_CLIENTS = {route for route, policy in ROUTES.items() if policy is Policy.CLIENT}
FOR_MONITORS = {route for route, policy in ROUTES.items() if policy is Policy.MONITOR}
FOR_MACHINES = FOR_CLIENTS | FOR_MONITORS
FOR_ADMINS = {route for route, policy in ROUTES.items() if policy is Policy.ADMIN}
ABOUT_AN_ID = {route for route in GUARDED if "user_id" in route[1]}


def contracts(app: Flask) -> Iterator[tuple[Rule, str, Contract]]:
    for rule, method, _, contract in openapi.contracts(app):
        assert contract, f"{method} {rule} declares no policy"
        yield rule, method, contract


@dataclass
class Matrix:
    """One column of the matrix: somebody asks every route, each time about a new person and with a new session."""

    app: Flask
    people: People

    def ask(self, asker: Asker, about: Callable[[], Person]) -> dict[Route, TestResponse]:
        return {
            (method, rule.rule): self._ask(rule, method, contract, about(), asker)
            for rule, method, contract in contracts(self.app)
        }

    def _ask(self, rule: Rule, method: str, contract: Contract, person: Person, asker: Asker) -> TestResponse:
        headers = asker(contract, person)
        path = rule.rule.replace("<id:user_id>", str(person.id)).replace("<asset>", "start.js")
        if "session_id" in rule.arguments:
            path = path.replace("<session:session_id>", self._session_of(headers))
        return self.app.test_client().open(path, method=method, headers=headers, **body_of(contract, person))

    def _session_of(self, headers: dict[str, str]) -> str:
        """Return a session of whoever asks."""
        sessions = self.app.test_client().get("/api/v1/sessions", headers=headers).get_json()["data"]
        return sessions["data"][-1]["id"] if sessions else "0" * 32


def body_of(contract: Contract, person: Person) -> dict[str, Any]:
    """Return a body that the route accepts."""
    if contract.form is None:
        return {}
    username = next(NAMES) if contract.form is SignUpForm else person.username
    mine = {
        "username": username,
        "password": person.password,
        "current_password": person.password,
        "mobile": "13200001111",  # as at sign-up: another one asks for a fresh token
        "token": person.access_token,
    }
    body = {name: mine.get(name, value) for name, value in contract.form.example.items()}
    return {"data" if issubclass(contract.form, UrlEncodedForm) else "json": body}


def with_token_of(people: People, asker: Person | None = None, *, is_stale: bool = False) -> Asker:
    """Return what asks with the right kind of token, of a new session of `asker` or of the person it is about."""

    def headers(contract: Contract, person: Person) -> dict[str, str]:
        session = people.log_in((asker or person).username)
        if contract.token == "refresh":
            return bearer(session.refresh_token)
        return bearer(session.refresh().get_json()["data"]["access_token"] if is_stale else session.access_token)

    return headers


def with_status(answers: dict[Route, TestResponse], status: int) -> set[Route]:
    return {route for route, answer in answers.items() if answer.status_code == status}


@pytest.fixture
def matrix(app: Flask, people: People) -> Matrix:
    return Matrix(app, people)


def test_every_route_has_the_policy_that_is_written_here(app: Flask) -> None:
    """A second pair of eyes: who adds a route or changes a policy says so here too."""
    assert {(method, rule.rule): contract.policy for rule, method, contract in contracts(app)} == ROUTES
    assert {(method, rule.rule) for rule, method, contract in contracts(app) if contract.is_fresh} == FRESH
    assert {(method, rule.rule) for rule, method, contract in contracts(app) if contract.token} == GUARDED


def test_a_route_without_a_policy_is_found(app: Flask) -> None:
    app.add_url_rule("/api/v1/forgotten", view_func=lambda: "", endpoint="forgotten")
    with pytest.raises(AssertionError, match="GET /api/v1/forgotten declares no policy"):
        test_every_route_has_the_policy_that_is_written_here(app)


def test_a_route_that_is_not_written_here_is_found(app: Flask) -> None:
    view = endpoint(policy=Policy.ANYONE, answer=None)(lambda: "")  # type: ignore[arg-type,return-value]
    app.add_url_rule("/api/v1/new", view_func=view, endpoint="new")
    with pytest.raises(AssertionError):
        test_every_route_has_the_policy_that_is_written_here(app)


def test_nobody_gets_past_a_policy_without_a_token(matrix: Matrix, people: People) -> None:
    answers = matrix.ask(lambda _contract, _person: {}, people.sign_up)
    assert with_status(answers, 401) == GUARDED | FOR_MACHINES
    assert with_status(answers, 200) == set(ROUTES) - GUARDED - FOR_MACHINES


def test_a_token_of_the_other_kind_opens_nothing(matrix: Matrix, people: People) -> None:
    """T6: the whole matrix; only the diagonal is let in."""

    def other_kind(contract: Contract, person: Person) -> dict[str, str]:
        return bearer(person.access_token if contract.token == "refresh" else person.refresh_token)

    assert with_status(matrix.ask(other_kind, people.sign_up), 401) == GUARDED | FOR_MACHINES


def test_a_user_gets_past_every_policy_about_themselves_and_none_for_admins(matrix: Matrix, people: People) -> None:
    answers = matrix.ask(with_token_of(people), people.sign_up)
    assert with_status(answers, 403) == FOR_ADMINS
    assert with_status(answers, 401) == FOR_MACHINES
    assert with_status(answers, 200) == set(ROUTES) - FOR_ADMINS - FOR_MACHINES


def test_a_stranger_gets_past_no_policy_about_an_id(matrix: Matrix, people: People) -> None:
    answers = matrix.ask(with_token_of(people, people.sign_up()), people.sign_up)
    assert with_status(answers, 403) == ABOUT_AN_ID | FOR_ADMINS


def test_an_admin_gets_past_every_policy_about_anybody(matrix: Matrix, people: People) -> None:
    """But for the password: an admin is asked for the one of their own account (Z5)."""
    admin = people.admin()
    answers = matrix.ask(with_token_of(people, admin), people.sign_up)
    assert with_status(answers, 403) == set()
    assert with_status(answers, 200) == set(ROUTES) - FOR_MACHINES


def test_somebody_blocked_gets_past_no_policy(matrix: Matrix, people: People) -> None:
    """Z4."""
    admin = people.admin()

    def blocked(contract: Contract, person: Person) -> dict[str, str]:
        headers = with_token_of(people)(contract, person)
        assert admin.post(f"/admin/users/{person.id}/block").status_code == 200
        return headers

    answers = matrix.ask(blocked, people.sign_up)
    assert with_status(answers, 401) - {("POST", "/api/v1/login")} == GUARDED | FOR_MACHINES
    assert with_status(answers, 403) == set()


def test_a_token_that_is_not_fresh_opens_all_but_what_is_for_fresh_ones(matrix: Matrix, people: People) -> None:
    """R9, P6."""
    answers = matrix.ask(with_token_of(people, people.admin(), is_stale=True), people.sign_up)
    assert with_status(answers, 401) == FRESH | FOR_MACHINES
    assert {answers[route].get_json()["error"]["type"] for route in FRESH} == {"fresh_token_required"}
    assert with_status(answers, 200) == set(ROUTES) - FRESH - FOR_MACHINES


@pytest.mark.parametrize("secret", ["right", "wrong"])
def test_a_client_gets_past_the_policies_for_clients_alone(app: Flask, matrix: Matrix, secret: str) -> None:
    """R10."""
    with app.app_context():
        client, right = add_client("a service")
    credentials = b64encode(f"{client.id}:{right if secret == 'right' else secret}".encode()).decode()
    answers = matrix.ask(lambda _contract, _person: {"Authorization": f"Basic {credentials}"}, matrix.people.sign_up)
    refused = GUARDED | (FOR_MONITORS if secret == "right" else FOR_MACHINES)
    assert with_status(answers, 401) == refused
    assert with_status(answers, 200) == set(ROUTES) - refused


@pytest.mark.parametrize("token", [METRICS_TOKEN, METRICS_TOKEN[:-1], f"{METRICS_TOKEN}x", "é"])
def test_a_monitor_gets_past_the_policy_for_monitors_alone(matrix: Matrix, token: str) -> None:
    answers = matrix.ask(lambda _contract, _person: bearer(token), matrix.people.sign_up)
    refused = GUARDED | FOR_CLIENTS | (FOR_MONITORS if token != METRICS_TOKEN else set())
    assert with_status(answers, 401) == refused
    assert with_status(answers, 200) == set(ROUTES) - refused
