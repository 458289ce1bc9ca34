"""The probes. tests/faults covers their responses while a store is unavailable."""

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from apps import create_app
from apps.extensions import db
from tests.support.documented_client import DocumentedClient

pytestmark = pytest.mark.stores("sqlite", "postgresql", "mariadb")


@pytest.fixture
def without_stores() -> Iterator[FlaskClient]:
    """A client of an application whose stores were never available."""
    app = create_app("testing", DATABASE_URL="sqlite:////no/such/folder/x", REDIS_URL="unix:///no/such/socket")
    app.test_client_class = DocumentedClient
    yield app.test_client()
    app.extensions["cache"]._is_open = False  # stops the reconnection probes


@pytest.mark.stores("sqlite")
def test_the_process_lives(client: FlaskClient) -> None:
    assert client.get("/healthz").get_json()["data"] == {"status": "ok"}


def test_the_service_is_ready_when_its_stores_answer(client: FlaskClient) -> None:
    assert client.get("/readyz").get_json()["data"] == {"database": True, "cache": True}


def test_liveness_asks_no_store(app: Flask, client: FlaskClient) -> None:
    """V2: a slow database must not cause a restart of the process."""
    asked: list[object] = []
    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", lambda *arguments: asked.append(arguments))
    assert client.get("/healthz").status_code == 200
    assert asked == []
    assert client.get("/readyz").status_code == 200
    assert asked


def test_a_probe_may_ask_for_the_head_alone(client: FlaskClient) -> None:
    for path in ("/healthz", "/readyz"):
        response = client.head(path)
        assert (response.status_code, response.data) == (200, b""), path


def test_a_service_without_stores_lives_and_names_what_is_missing(without_stores: FlaskClient) -> None:
    """V2."""
    assert without_stores.get("/healthz").status_code == 200
    response = without_stores.get("/readyz")
    assert response.status_code == 503
    assert response.get_json()["error"]["fields"] == {"database": ["Does not respond."], "cache": ["Does not respond."]}
    assert int(response.headers["Retry-After"]) >= 1
