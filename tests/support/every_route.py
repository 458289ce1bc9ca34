"""Requests that succeed, made from the contracts of the routes; and every route once, in an order that works."""

import itertools
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jwt
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from apps.forms.urlencoded import UrlEncodedForm
from apps.forms.user import SignUpForm
from apps.http import openapi
from apps.http.contract import Contract, Policy
from apps.services.client import SCOPES, add_client
from tests.support.people import People, Person, bearer

Headers = dict[str, str]
Route = tuple[str, str]
Send = Callable[[], TestResponse]

_names = (f"newcomer-{number}" for number in itertools.count())

# What to do when a request for a new route is not answered with 200.
HINT = """
tests/support/every_route.py makes these requests from the contracts: bodies are the `example` of the form, and users
ask about themselves, admins about another user. Add what it cannot derive:
- PARAMETERS: a value for a new parameter of a path, made for the sender of the request;
- body_of: the value of a field that depends on the user;
- LAST: a route that ends sessions or deletes users."""


def own_session(client: FlaskClient, headers: Headers, _about: Person) -> str:
    """Return the sender's session that was unused for longest."""
    sessions = client.get("/api/v1/sessions", headers=headers).get_json()["data"]
    return sessions["data"][-1]["id"] if sessions else "0" * 32


# {parameter of a path: a function of the client, the headers of the request and the user that it is about}
PARAMETERS: dict[str, Callable[[FlaskClient, Headers, Person], object]] = {
    "asset": lambda _client, _headers, _about: "start.js",
    "session_id": own_session,
    "user_id": lambda _client, _headers, about: about.id,
}

# These routes end sessions or delete users. They come after all others, in this order.
LAST: list[Route] = [
    ("DELETE", "/api/v1/sessions/<session:session_id>"),
    ("DELETE", "/api/v1/sessions"),
    ("POST", "/api/v1/password"),
    ("DELETE", "/api/v1/users/<id:user_id>"),
    ("DELETE", "/api/v1/admin/users/<id:user_id>"),
]


def contracts(app: Flask) -> Iterator[tuple[Rule, str, Contract]]:
    for rule, method, _, contract in openapi.contracts(app):
        assert contract, f"{method} {rule} declares no policy: decorate its view with @endpoint (apps/http/endpoint.py)"
        yield rule, method, contract


def path_of(rule: Rule, client: FlaskClient, headers: Headers, about: Person) -> str:
    """Return the path of a rule, with a value for each of its parameters."""
    missing = rule.arguments - set(PARAMETERS)
    assert not missing, f"{rule.rule}: add {sorted(missing)} to PARAMETERS in tests/support/every_route.py"
    values = {name: PARAMETERS[name](client, headers, about) for name in rule.arguments}
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda match: str(values[match[1]]), rule.rule)


def body_of(contract: Contract, about: Person, **values: str) -> dict[str, Any]:
    """Return a body that the route accepts: the form's example with `values` and those of the user."""
    if contract.form is None:
        return {}
    of_user = {
        "username": next(_names) if contract.form is SignUpForm else about.username,
        "password": about.password,
        "current_password": about.password,
        "mobile": "13200001111",  # as at sign-up: a new number needs a fresh token
        "token": about.access_token,
    }
    body = {name: (of_user | values).get(name, value) for name, value in contract.form.example.items()}
    return {"data" if issubclass(contract.form, UrlEncodedForm) else "json": body}


def basic(client_id: str, secret: str) -> Headers:
    return {"Authorization": f"Basic {b64encode(f'{client_id}:{secret}'.encode()).decode()}"}


class EveryRoute:
    """Alice, who uses the API for herself; Bob, whose account an admin manages; a service that asks about tokens."""

    def __init__(self, app: Flask, client: FlaskClient) -> None:
        self.app, self.client = app, client
        people = People(client)
        self.ended = people.sign_up()  # Alice's first session
        self.alice, self.left, self.revoked = (people.log_in(self.ended.username) for _ in range(3))
        self.bob, self.admin = people.sign_up(), people.admin()
        with app.app_context():
            service, self.service_secret = add_client("a service", SCOPES)
        self.service_id = service.id
        self._values = {
            ("PATCH", "/api/v1/users/<id:user_id>"): {"mobile": "13200002222"},
            ("POST", "/api/v1/password"): {"new_password": "another " * 2},
            ("POST", "/api/v1/revoke"): {"token": self.revoked.access_token},
        }

    @property
    def requests(self) -> Iterator[tuple[str, Send]]:
        """Give ("<method> <rule>", a function that sends it) for each route but /metrics."""
        found = {(method, rule.rule): (rule, contract) for rule, method, contract in contracts(self.app)}
        for route in [*(route for route in found if route not in LAST), *LAST]:
            rule, contract = found[route]
            if contract.policy is not Policy.MONITOR:
                yield " ".join(route), self._request(route, rule, contract)

    def _request(self, route: Route, rule: Rule, contract: Contract) -> Send:
        about = self.bob if contract.policy is Policy.ADMIN else self.alice
        headers = self._headers(route, contract)
        path = path_of(rule, self.client, headers, about)
        body = body_of(contract, about, **self._values.get(route, {}))
        return partial(self.client.open, path, method=route[0], headers=headers, **body)

    def _headers(self, route: Route, contract: Contract) -> Headers:
        if contract.policy is Policy.CLIENT:
            return basic(self.service_id, self.service_secret)
        if contract.token is None:
            return {}
        person = self.admin if contract.policy is Policy.ADMIN else self.alice
        if route == ("POST", "/api/v1/logout"):
            person = self.left
        return bearer(person.refresh_token if contract.token == "refresh" else person.access_token)


def session_id(person: Person) -> str:
    """Return the id of the session of a person's token."""
    claims: dict[str, str] = jwt.decode(person.access_token, options={"verify_signature": False})
    return claims["sid"]
