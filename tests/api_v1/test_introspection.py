"""R10: introspection (RFC 7662) and revocation (RFC 7009) by other services."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from apps.extensions import db
from apps.models import AuditEvent, Client
from apps.services.client import SCOPES
from tests.support.forge import REFUSAL, altered, claims_of, verdict
from tests.support.keys import add_client, basic, command
from tests.support.people import People, bearer

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
INACTIVE = (200, {"active": False})
INSUFFICIENT_SCOPE = (403, {"type": "insufficient_scope"})
REFUSED = (401, "invalid_client", 'Basic realm="gatehouse", charset="UTF-8"')


class Service:
    """Another service, with its credentials."""

    def __init__(self, app: Flask, scopes: Sequence[str] = SCOPES) -> None:
        self.client = app.test_client()
        self.id, self.secret = add_client(app, scopes=scopes)

    def introspect(self, token: str) -> tuple[int, dict[str, object]]:
        response = self.send("introspect", token)
        return response.status_code, response.get_json()

    def send(self, path: str, token: str, **more: str) -> TestResponse:
        headers = basic(self.id, self.secret)
        return self.client.post(f"/api/v1/{path}", data={"token": token, **more}, headers=headers)


@pytest.fixture
def service(app: Flask) -> Service:
    return Service(app)


def test_a_good_token_is_told_with_its_claims_and_its_user(service: Service, people: People) -> None:
    """R10: RFC 7662, 2.2: JSON without the envelope, for clients of that RFC."""
    alice = people.sign_up("alice-liddell")
    for token in (alice.access_token, alice.refresh_token):
        told_of = {name: value for name, value in claims_of(token).items() if name not in ("fresh", "gen")}
        expected = {"active": True, "username": "alice-liddell", "role": "user", "token_type": "Bearer"} | told_of
        assert service.introspect(token) == (200, expected)


def test_of_any_other_token_nothing_is_told(service: Service, people: People) -> None:
    """R10: forged, expired, of an ended session or of a deleted user: `{"active": false}` and nothing else."""
    with time_machine.travel(START, tick=False) as time:
        alice, bob, carol = (people.sign_up() for _ in range(3))
        bob.post("/logout", json={})
        carol.delete(f"/users/{carol.id}")
        bad = [
            "x",
            "a.b.c",
            "é",
            "a\0b",
            "x" * 9000,
            "x" * 60_000,
            alice.access_token[:-4] + "AAAA",
            altered(alice.access_token, sub="999"),
        ]
        for token in [*bad, bob.access_token, bob.refresh_token, carol.access_token, carol.refresh_token]:
            assert service.introspect(token) == INACTIVE
        time.shift(3600 * 24)
        assert service.introspect(alice.access_token) == INACTIVE


def test_a_block_is_told_at_once(service: Service, people: People) -> None:
    """R10, K7: the advantage over verification with the public keys."""
    admin, alice = people.admin(), people.sign_up()
    assert service.introspect(alice.access_token)[1]["active"]
    assert admin.post(f"/admin/users/{alice.id}/block").status_code == 200
    assert service.introspect(alice.access_token) == INACTIVE


@pytest.mark.stores("sqlite")
@pytest.mark.settings(JWT_REFRESH_ROTATION=True)
def test_a_retired_refresh_token_is_not_active(service: Service, people: People) -> None:
    """R10: even within its grace. Introspection is not a use of the token, so its session goes on."""
    alice = people.sign_up()
    retired = alice.refresh_token
    alice.refresh_token = alice.refresh().get_json()["data"]["refresh_token"]
    assert service.introspect(retired) == INACTIVE
    assert service.introspect(alice.refresh_token)[1]["active"]
    assert alice.refresh().status_code == 200


def test_to_revoke_a_token_ends_its_session(app: Flask, service: Service, people: People) -> None:
    """RFC 7009, 2.1: either token ends the session, so both are refused. Other sessions go on."""
    for kind in ("access_token", "refresh_token"):
        alice = people.sign_up()
        other = people.log_in(alice.username)
        response = service.send("revoke", getattr(alice, kind), token_type_hint="refresh_token")
        assert (response.status_code, response.get_json()["data"]) == (200, {})
        assert [verdict(alice.get("/users/")), verdict(alice.refresh())] == [REFUSAL] * 2
        assert other.get("/users/").status_code == 200
        with app.app_context():
            ended = db.session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()
        assert (ended.event, ended.subject_id) == ("session.end", alice.id)
        assert "revoked_by_client" in ended.detail
        assert service.id in ended.detail


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize("path", ["introspect", "revoke"])
def test_only_a_wrong_secret_of_a_client_is_an_event(app: Flask, service: Service, path: str) -> None:
    """L3: unknown client ids would fill the audit and guess nothing. A right secret is no event either."""

    def last_event() -> AuditEvent:
        with app.app_context():
            return db.session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()

    before = last_event().id
    for headers in (basic("0" * 16, "x"), basic("a\0b", "x"), basic("x" * 5000, "x"), {}):
        assert service.client.post(f"/api/v1/{path}", data={"token": "x"}, headers=headers).status_code == 401
    service.send(path, "x")
    assert last_event().id == before
    service.client.post(f"/api/v1/{path}", data={"token": "x"}, headers=basic(service.id, "x"))
    guess = last_event()
    assert (guess.id, guess.event, guess.outcome) == (before + 1, "client.authenticate", "failure")
    assert guess.detail == f'{{"client":"{service.id}"}}'


@pytest.mark.stores("sqlite")
def test_to_revoke_what_is_no_token_is_answered_alike(service: Service, people: People) -> None:
    """R10: RFC 7009, 2.2: 200 for unknown, forged and already revoked tokens. A wrong hint changes nothing."""
    alice = people.sign_up()
    good = service.send("revoke", alice.access_token, token_type_hint="no such hint")
    for token in (alice.access_token, "x", "a.b.c", "a\0b", "x" * 9000, altered(alice.access_token, sub="999")):
        for hint in ({}, {"token_type_hint": ""}, {"token_type_hint": "a\0b"}):
            again = service.send("revoke", token, **hint)
            assert (again.status_code, again.data) == (200, good.data)
    assert service.send("revoke", "x" * 65_536).status_code == 413


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize("path", ["introspect", "revoke"])
def test_only_a_client_may_ask(app: Flask, client: FlaskClient, people: People, service: Service, path: str) -> None:
    """R10: RFC 7662, 2.1: otherwise anyone could test tokens. An admin's token is not accepted."""
    alice, admin = people.sign_up(), people.admin()
    gone = add_client(app, "gone")
    command(app, "clients", "remove", gone[0])
    refused: dict[str, dict[str, str]] = {
        "nothing": {},
        "a user's token": bearer(alice.access_token),
        "an admin's token": bearer(admin.access_token),
        "a wrong secret": basic(service.id, service.secret + "x"),
        "no secret": basic(service.id, ""),
        "another's secret": basic(service.id, gone[1]),
        "an unknown client": basic("0" * 16, service.secret),
        "a NUL": basic("a\0b", service.secret),
        "no ASCII": {"Authorization": "Basic \xff\xfe"},
        "no UTF-8": {"Authorization": "Basic //79"},
        "a removed client": basic(*gone),
        "no base64": {"Authorization": "Basic %%%"},
        "no colon": {"Authorization": "Basic YWJj"},
    }
    for name, headers in refused.items():
        response = client.post(f"/api/v1/{path}", data={"token": alice.access_token}, headers=headers)
        error = response.get_json()["error"]["type"]
        assert (name, response.status_code, error, response.headers["WWW-Authenticate"]) == (name, *REFUSED)
    assert alice.get("/users/").status_code == 200


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize("path", ["introspect", "revoke"])
def test_the_token_comes_in_a_form(service: Service, people: People, path: str) -> None:
    """RFC 7662, 2.1 and RFC 7009, 2.1: form-encoded in the body, never in the query, which is logged."""
    alice = people.sign_up()
    url, headers, token = f"/api/v1/{path}", basic(service.id, service.secret), alice.access_token
    refused = service.client.post(url, json={"token": token}, headers=headers)
    assert refused.status_code == 415
    assert "application/x-www-form-urlencoded" in refused.get_json()["message"]
    for form in ({}, {"token": ""}, {"token": [token, token]}, {"other": token}):
        response = service.client.post(url, data=form, headers=headers | FORM)
        assert (response.status_code, response.get_json()["error"]["type"]) == (400, "invalid_body"), form
    assert service.client.post(f"{url}?token={token}", headers=headers | FORM).status_code == 400
    assert service.client.get(f"{url}?token={token}", headers=headers).status_code == 405
    assert alice.get("/users/").status_code == 200


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize("more", ["", "&", "&%8B=", "&%8B=1", "&=1", "&other", "&other=1&other=2", "&token="])
def test_unknown_parameters_and_parameters_without_a_value_are_ignored(
    service: Service, people: People, more: str
) -> None:
    """I2: RFC 6749, 3.2, whose rules for parameters RFC 7009 and RFC 7662 build on."""
    alice, headers = people.sign_up(), basic(service.id, service.secret) | FORM

    def send(path: str, token: str) -> object:
        response = service.client.post(f"/api/v1/{path}", data=f"token={token}{more}", headers=headers)
        return response.status_code, response.get_json().get("active")

    assert [send("introspect", alice.access_token), send("introspect", "%F3")] == [(200, True), (200, False)]
    assert [send("revoke", alice.access_token), send("revoke", "%F3")] == [(200, None)] * 2
    assert send("introspect", alice.access_token) == (200, False)


@pytest.mark.parametrize(("scope", "other"), [("introspect", "revoke"), ("revoke", "introspect")])
def test_a_client_needs_the_scope_of_the_route(app: Flask, people: People, scope: str, other: str) -> None:
    """R10, L3: 403 before the token is read. The refusal is audited, and a new scope applies to the next request."""
    service, alice = Service(app, [scope]), people.sign_up()
    for token in (alice.access_token, "x", ""):
        response = service.send(other, token)
        assert (response.status_code, response.get_json()["error"]) == INSUFFICIENT_SCOPE
        assert f"the scope `{other}`" in response.get_json()["message"]
        assert last_event(app) == ("client.authorize", "failure", {"client": service.id, "scope": other})
    assert service.send(scope, "x").status_code == 200
    assert alice.get("/users/").status_code == 200
    command(app, "clients", "set", service.id, f"--scope={other}")
    assert last_event(app) == ("client.update", "success", {"client": service.id, "scopes": other})
    assert [service.send(path, "x").status_code for path in (other, scope)] == [200, 403]


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize(
    ("kind", "scopes"),
    [("app", "introspect revoke"), ("", "introspect revoke"), ("service", ""), ("service", "introspects"),
     ("service", "introspect,revoke"), ("service", "Introspect REVOKE"), ("service", "openid")],
)  # fmt: skip
def test_only_a_service_with_the_very_scope_may_ask(app: Flask, service: Service, kind: str, scopes: str) -> None:
    """R10: a row of another kind, as a later release writes it, may not act on the tokens of all users."""
    with app.app_context():
        db.session.execute(update(Client).values(kind=kind, scopes=scopes))
        db.session.commit()
    for path in ("introspect", "revoke"):
        response = service.send(path, "x")
        assert (response.status_code, response.get_json()["error"]) == INSUFFICIENT_SCOPE


def last_event(app: Flask) -> tuple[str, str, dict[str, str]]:
    with app.app_context():
        event = db.session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()
        return event.event, event.outcome, json.loads(event.detail)


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
def test_a_clients_secret_is_kept_as_a_digest(app: Flask, service: Service) -> None:
    """R10: a fast hash is enough for 256 random bits. The list of clients does not show the secret."""
    with app.app_context():
        row = db.session.get_one(Client, service.id)
        assert len(row.secret_digest) == 32
        assert service.secret.encode() not in bytes(row.secret_digest)
    assert len(service.secret) == 43
    (line,) = command(app, "clients", "list")
    assert service.id in line
    assert service.secret not in line
