"""Every route of the service once, in an order in which each succeeds."""

from collections.abc import Callable, Iterator
from typing import Any

import jwt
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from apps.services.client import add_client
from tests.support.people import PASSWORD, People, Person, bearer, sign_up_body

Send = Callable[[], TestResponse]


class EveryRoute:
    """Alice, who uses the API for herself; Bob, of whom an admin takes care; and a service that asks about tokens."""

    def __init__(self, app: Flask, client: FlaskClient) -> None:
        self.app, self.client = app, client
        people = People(client)
        self.alice, self.bob, self.admin = people.sign_up(), people.sign_up(), people.admin()
        self.ended, self.left, self.revoked = (people.log_in(self.alice.username) for _ in range(3))
        with app.app_context():
            service, self.service_secret = add_client("a service")
        self.service_id = service.id

    @property
    def requests(self) -> Iterator[tuple[str, Send]]:
        """Give ("<method> <rule>", a function that sends it) for each route."""
        sent = {f"{method} {rule}" for method, rule, *_ in self._table()}
        assert sent == self._routes()
        for method, rule, person, kwargs in self._table():
            yield f"{method} {rule}", lambda m=method, r=rule, p=person, k=kwargs: self._send(m, r, p, k)

    def _routes(self) -> set[str]:
        rules = [rule for rule in self.app.url_map.iter_rules() if rule.rule != "/metrics"]  # which is no one's here
        return {f"{method} {rule.rule}" for rule in rules for method in rule.methods - {"HEAD", "OPTIONS"}}

    def _send(self, method: str, rule: str, person: Person | None, kwargs: dict[str, Any]) -> TestResponse:
        owner = self.bob if "/admin/" in rule else self.alice
        path = rule.replace("<id:user_id>", str(owner.id)).replace("<asset>", "start.js")
        path = path.replace("<session:session_id>", session_id(self.ended))
        is_refresh = rule.endswith("/refresh")
        headers = bearer(person.refresh_token if is_refresh else person.access_token) if person else {}
        return self.client.open(path, method=method, headers=headers, **kwargs)

    def _table(self) -> list[tuple[str, str, Person | None, dict[str, Any]]]:
        alice, admin, mine, account = self.alice, self.admin, "/api/v1/users/<id:user_id>", "/api/v1/admin/users"
        bobs, basic = f"{account}/<id:user_id>", (self.service_id, self.service_secret)
        login = {"username": alice.username, "password": PASSWORD}
        return [
            *(("GET", path, None, {}) for path in ("/healthz", "/readyz", "/.well-known/jwks.json")),
            *(("GET", f"/api/v1/{path}", None, {}) for path in ("openapi.json", "docs", "docs/<asset>")),
            ("POST", "/api/v1/users/", None, {"json": sign_up_body()}),
            ("POST", "/api/v1/login", None, {"json": login}),
            ("POST", "/api/v1/refresh", alice, {}),
            ("POST", "/api/v1/introspect", None, {"data": {"token": alice.access_token}, "auth": basic}),
            ("POST", "/api/v1/revoke", None, {"data": {"token": self.revoked.access_token}, "auth": basic}),
            ("POST", "/api/v1/logout", self.left, {}),
            ("GET", "/api/v1/sessions", alice, {}),
            ("DELETE", "/api/v1/sessions/<session:session_id>", alice, {}),
            ("DELETE", "/api/v1/sessions", alice, {}),
            ("GET", "/api/v1/users/", alice, {}),
            ("GET", f"{mine}/export", alice, {}),
            ("GET", mine, alice, {}),
            ("PUT", mine, alice, {"json": sign_up_body(alice.username)}),
            ("PATCH", mine, alice, {"json": {"mobile": "13200002222"}}),
            (
                "POST",
                "/api/v1/password",
                alice,
                {"json": {"current_password": PASSWORD, "new_password": "another " * 2}},
            ),
            ("DELETE", mine, alice, {}),
            ("GET", account, admin, {}),
            ("GET", "/api/v1/audit", admin, {}),
            ("GET", bobs, admin, {}),
            ("PUT", f"{bobs}/role", admin, {"json": {"role": "admin"}}),
            ("POST", f"{bobs}/block", admin, {}),
            ("POST", f"{bobs}/unblock", admin, {}),
            ("DELETE", f"{bobs}/sessions", admin, {}),
            ("DELETE", bobs, admin, {}),
        ]


def session_id(person: Person) -> str:
    """Return the session that a person's token is of."""
    claims: dict[str, str] = jwt.decode(person.access_token, options={"verify_signature": False})
    return claims["sid"]
