"""Z1, T6: every route, requested by every kind of caller. A new route is included, or a test here fails."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from apps.http.contract import Contract, Policy
from apps.http.endpoint import endpoint
from apps.services.client import SCOPES, Scope, add_client
from tests.support.every_route import HINT, EveryRoute, Headers, Route, basic, body_of, contracts, path_of
from tests.support.people import People, Person, bearer

Asker = Callable[[Contract, Person], Headers]  # the headers of a caller

METRICS_TOKEN = "test-metrics-token-of-the-suite-only"
pytestmark = [pytest.mark.stores("sqlite"), pytest.mark.settings(METRICS_TOKEN=METRICS_TOKEN)]

ROUTES = {
    ("GET", "/healthz"): Policy.ANYONE,
    ("GET", "/readyz"): Policy.ANYONE,
    ("GET", "/.well-known/jwks.json"): Policy.ANYONE,
    ("GET", "/metrics"): Policy.MONITOR,
    ("GET", "/api/v1/openapi.json"): Policy.ANYONE,
    ("GET", "/api/v1/settings"): Policy.ANYONE,
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
    ("GET", "/api/v1/users/"): Policy.SELF,
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
SCOPE_OF = {("POST", "/api/v1/introspect"): "introspect", ("POST", "/api/v1/revoke"): "revoke"}
FRESH = {  # what the thief of an access token must not do
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


@dataclass
class Matrix:
    """One column of the matrix: a caller requests every route, each about a new person and with a new session."""

    app: Flask
    people: People

    def ask(self, asker: Asker, about: Callable[[], Person]) -> dict[Route, TestResponse]:
        return {
            (method, rule.rule): self._ask(rule, method, contract, about(), asker)
            for rule, method, contract in contracts(self.app)
        }

    def _ask(self, rule: Rule, method: str, contract: Contract, person: Person, asker: Asker) -> TestResponse:
        client, headers = self.app.test_client(), asker(contract, person)
        path = path_of(rule, client, headers, person)
        return client.open(path, method=method, headers=headers, **body_of(contract, person))


def with_token_of(people: People, asker: Person | None = None, *, is_stale: bool = False) -> Asker:
    """Return a caller with the right kind of token, of a new session of `asker` or else of the person in question."""

    def headers(contract: Contract, person: Person) -> Headers:
        session = people.log_in((asker or person).username)
        if contract.token == "refresh":
            return bearer(session.refresh_token)
        return bearer(session.refresh().get_json()["data"]["access_token"] if is_stale else session.access_token)

    return headers


def check(answers: dict[Route, TestResponse], status: int, expected: set[Route]) -> None:
    """Fail unless the expected routes and no others answered with `status`; show what the odd ones answered."""
    odd = {route for route, answer in answers.items() if answer.status_code == status} ^ expected
    told = [f"{' '.join(route)}: {answers[route].status_code} {answers[route].text}" for route in sorted(odd)]
    assert not odd, "\n".join([f"these should answer {status}, or should not:", *told, HINT])


def compare(table: str, written: set[str], declared: set[str]) -> None:
    """Fail unless a table of this file equals the contracts; say which lines to add and to remove."""
    lines = [f"  add     {line}" for line in sorted(declared - written)]
    lines += [f"  remove  {line}" for line in sorted(written - declared)]
    assert not lines, "\n".join(
        [f"{table} of tests/contract/test_policies.py differs from the contracts. If they are right:", *lines]
    )


@pytest.fixture
def matrix(app: Flask, people: People) -> Matrix:
    return Matrix(app, people)


def test_every_route_has_the_policy_that_is_written_here(app: Flask) -> None:
    """A second pair of eyes: a new route or another policy must be entered here too."""
    routes = {(method, rule.rule): contract for rule, method, contract in contracts(app)}
    declared = {f'("{method}", "{rule}"): {contract.policy},' for (method, rule), contract in routes.items()}
    written = {f'("{method}", "{rule}"): {policy},' for (method, rule), policy in ROUTES.items()}
    compare("ROUTES", written, declared)
    declared = {f'("{method}", "{rule}"),' for (method, rule), contract in routes.items() if contract.is_fresh}
    written = {f'("{method}", "{rule}"),' for method, rule in FRESH}
    compare("FRESH", written, declared)
    assert {route for route, contract in routes.items() if contract.token} == GUARDED
    assert {route: contract.scope for route, contract in routes.items() if contract.scope} == SCOPE_OF


def test_every_route_succeeds_once_in_the_order_of_every_route(app: Flask, client: FlaskClient) -> None:
    """Other tests send these requests while Redis or the database is away, or look for secrets afterwards."""
    for name, send in EveryRoute(app, client).requests:
        response = send()
        assert response.status_code == 200, f"{name}: {response.status_code} {response.text}{HINT}"


def test_a_route_without_a_policy_is_found(app: Flask) -> None:
    app.add_url_rule("/api/v1/forgotten", view_func=lambda: "", endpoint="forgotten")
    with pytest.raises(AssertionError, match="GET /api/v1/forgotten declares no policy"):
        test_every_route_has_the_policy_that_is_written_here(app)


def test_a_route_that_is_not_written_here_is_found(app: Flask) -> None:
    view = endpoint(policy=Policy.ANYONE, answer=None)(lambda: "")  # type: ignore[arg-type,return-value]
    app.add_url_rule("/api/v1/new", view_func=view, endpoint="new")
    with pytest.raises(AssertionError, match=r'ROUTES .*\n +add +\("GET", "/api/v1/new"\): Policy.ANYONE,'):
        test_every_route_has_the_policy_that_is_written_here(app)


def test_nobody_gets_past_a_policy_without_a_token(matrix: Matrix, people: People) -> None:
    answers = matrix.ask(lambda _contract, _person: {}, people.sign_up)
    check(answers, 401, GUARDED | FOR_MACHINES)
    check(answers, 200, set(ROUTES) - GUARDED - FOR_MACHINES)


def test_a_token_of_the_other_kind_opens_nothing(matrix: Matrix, people: People) -> None:
    """T6: the whole matrix; only the diagonal is let in, and a logout takes either kind."""

    def other_kind(contract: Contract, person: Person) -> Headers:
        return bearer(person.access_token if contract.token == "refresh" else person.refresh_token)

    check(matrix.ask(other_kind, people.sign_up), 401, (GUARDED | FOR_MACHINES) - {("POST", "/api/v1/logout")})


def test_a_user_gets_past_every_policy_about_themselves_and_none_for_admins(matrix: Matrix, people: People) -> None:
    answers = matrix.ask(with_token_of(people), people.sign_up)
    check(answers, 403, FOR_ADMINS)
    check(answers, 401, FOR_MACHINES)
    check(answers, 200, set(ROUTES) - FOR_ADMINS - FOR_MACHINES)


def test_a_stranger_gets_past_no_policy_about_an_id(matrix: Matrix, people: People) -> None:
    answers = matrix.ask(with_token_of(people, people.sign_up()), people.sign_up)
    check(answers, 403, ABOUT_AN_ID | FOR_ADMINS)


def test_an_admin_gets_past_every_policy_about_anybody(matrix: Matrix, people: People) -> None:
    """But for the password: an admin is asked for the one of their own account (Z5)."""
    admin = people.admin()
    answers = matrix.ask(with_token_of(people, admin), people.sign_up)
    check(answers, 403, set())
    check(answers, 200, set(ROUTES) - FOR_MACHINES)


def test_somebody_blocked_gets_past_no_policy(matrix: Matrix, people: People) -> None:
    """Z4."""
    admin = people.admin()

    def blocked(contract: Contract, person: Person) -> Headers:
        headers = with_token_of(people)(contract, person)
        assert admin.post(f"/admin/users/{person.id}/block").status_code == 200
        return headers

    answers = matrix.ask(blocked, people.sign_up)
    check(answers, 401, GUARDED | FOR_MACHINES | {("POST", "/api/v1/login")})
    check(answers, 403, set())


def test_a_token_that_is_not_fresh_opens_all_but_what_is_for_fresh_ones(matrix: Matrix, people: People) -> None:
    """R9, P6."""
    answers = matrix.ask(with_token_of(people, people.admin(), is_stale=True), people.sign_up)
    check(answers, 401, FRESH | FOR_MACHINES)
    assert {answers[route].get_json()["error"]["type"] for route in FRESH} == {"fresh_token_required"}
    check(answers, 200, set(ROUTES) - FRESH - FOR_MACHINES)


@pytest.mark.parametrize("secret", ["right", "wrong"])
def test_a_client_gets_past_the_policies_for_clients_alone(app: Flask, matrix: Matrix, secret: str) -> None:
    """R10."""
    with app.app_context():
        client, right = add_client("a service", SCOPES)
    headers = basic(client.id, right if secret == "right" else secret)
    answers = matrix.ask(lambda _contract, _person: headers, matrix.people.sign_up)
    refused = GUARDED | (FOR_MONITORS if secret == "right" else FOR_MACHINES)
    check(answers, 401, refused)
    check(answers, 200, set(ROUTES) - refused)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_client_gets_past_the_routes_of_its_scope_alone(app: Flask, matrix: Matrix, scope: Scope) -> None:
    """R10."""
    with app.app_context():
        client, secret = add_client("a service", [scope])
    answers = matrix.ask(lambda _contract, _person: basic(client.id, secret), matrix.people.sign_up)
    refused = {route for route, needed in SCOPE_OF.items() if needed != scope}
    check(answers, 403, refused)
    check(answers, 200, set(ROUTES) - GUARDED - FOR_MONITORS - refused)


@pytest.mark.parametrize("token", [METRICS_TOKEN, METRICS_TOKEN[:-1], f"{METRICS_TOKEN}x", "é"])
def test_a_monitor_gets_past_the_policy_for_monitors_alone(matrix: Matrix, token: str) -> None:
    answers = matrix.ask(lambda _contract, _person: bearer(token), matrix.people.sign_up)
    refused = GUARDED | FOR_CLIENTS | (FOR_MONITORS if token != METRICS_TOKEN else set())
    check(answers, 401, refused)
    check(answers, 200, set(ROUTES) - refused)
