"""Sentry reports: they name the place of an error and contain no data of the request."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sentry_sdk
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from apps.config import settings
from apps.extensions import db
from tests.support import stores
from tests.support.collector import Collector, collecting
from tests.support.people import PASSWORD, People, bearer, sign_up_body

CANARY = "canary-7Qe2vX"


@pytest.fixture
def sentry() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def app(store: str, database_url: str, sentry: Collector) -> Iterator[Flask]:
    dsn = f"http://key@127.0.0.1:{sentry.port}/1"
    redis_url = stores.cache_url(stores.PAIRS[store].cache)
    with stores.application(database_url, redis_url, SENTRY_DSN=dsn) as app:
        yield app
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


def reports(sentry: Collector) -> list[dict[str, Any]]:
    """Return the received reports. In an envelope, a report is the line after its item header."""
    sentry_sdk.flush(10)
    return [json.loads(body.split(b"\n")[2]) for _, body in sentry.received]


@contextmanager
def broken(app: Flask) -> Iterator[None]:
    """Raise on each insert of a user, with all its parameters in the exception's text and in local variables."""

    def explode(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        local_variable = f"{CANARY} {parameters}"
        if statement.startswith("INSERT INTO users"):
            raise RuntimeError(local_variable)

    with changed(app, "before_cursor_execute", explode):
        yield


@contextmanager
def changed(app: Flask, name: str, listener: Any, **options: Any) -> Iterator[None]:
    with app.app_context():
        engine = db.engine
    event.listen(engine, name, listener, **options)
    try:
        yield
    finally:
        event.remove(engine, name, listener)


def fail(client: FlaskClient) -> Any:
    """Send a request that fails, with secrets in every part."""
    return client.post(
        f"/api/v1/users/?access_token={CANARY}",
        json=sign_up_body("alice-liddell"),
        headers={**bearer(CANARY), "Cookie": f"__Host-access={CANARY}", "User-Agent": CANARY, "X-Api-Key": CANARY},
        environ_overrides={"REMOTE_ADDR": "203.0.113.77"},
    )


@pytest.mark.stores("sqlite", "postgresql")
def test_an_error_is_reported_by_where_it_happened(app: Flask, client: FlaskClient, sentry: Collector) -> None:
    with broken(app):
        response = fail(client)
    assert response.status_code == 500
    (report,) = reports(sentry)
    (exception,) = report["exception"]["values"]
    assert exception["type"] == "RuntimeError"
    assert {"sign_up", "explode"} <= {frame["function"] for frame in exception["stacktrace"]["frames"]}
    assert report["logentry"]["message"] == "unexpected error"
    assert report["tags"] == {"request_id": response.headers["X-Request-ID"], "route": "/api/v1/users/"}


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
def test_nothing_of_a_request_leaves_with_a_report(app: Flask, client: FlaskClient, sentry: Collector) -> None:
    """L1: no password, token or cookie, from any place where the library could read it."""
    with broken(app):
        assert fail(client).status_code == 500
    assert len(reports(sentry)) == 1
    secrets = (CANARY, PASSWORD, "alice-liddell", "13200001111", "argon2", "203.0.113.77", settings(app).JWT_SECRET_KEY)
    assert [secret for secret in secrets if secret in sentry.everything] == []


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
def test_no_row_that_a_database_quotes_leaves(app: Flask, client: FlaskClient, sentry: Collector) -> None:
    """L1: PostgreSQL adds `DETAIL: Failing row contains (...)`, including the password hash."""

    def lose_a_value(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        if not statement.startswith("INSERT INTO users"):
            return statement, parameters
        if isinstance(parameters, dict):
            return statement, parameters | {"age": None}
        return statement, tuple(None if value == 18 else value for value in parameters)

    with changed(app, "before_cursor_execute", lose_a_value, retval=True):
        assert fail(client).status_code in (500, 503)
    (report,) = reports(sentry)
    assert "IntegrityError" in str(report) or "OperationalError" in str(report) or "database unavailable" in str(report)
    for secret in (CANARY, PASSWORD, "alice-liddell", "argon2", "Failing row"):
        assert secret not in sentry.everything


@pytest.mark.stores("sqlite")
def test_what_a_client_does_wrong_is_no_report(people: People, client: FlaskClient, sentry: Collector) -> None:
    people.sign_up()
    client.get("/nowhere")
    client.post("/api/v1/login", json={"username": "nobody-x", "password": CANARY})
    assert reports(sentry) == []
