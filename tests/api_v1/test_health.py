"""The probes. tests/faults covers their responses while a store is unavailable."""

import io
import json
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, text
from sqlalchemy.engine import make_url

from apps import create_app
from apps.database.revision import needed_revision
from apps.extensions import db
from tests.support.documented_client import DocumentedClient
from tests.support.people import PASSWORD, sign_up_body
from tests.support.servers import create_database

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


def set_revision(app: Flask, revision: str | None) -> None:
    """Write another migration into the database, without changing a table."""
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
        if revision:
            connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})


@pytest.fixture
def migrated(app: Flask) -> Iterator[Flask]:
    """An application whose database is at its migration again afterwards."""
    yield app
    set_revision(app, needed_revision())


@pytest.mark.parametrize(("revision", "fact"), [("0001", "Is at migration 0001"), (None, "Has no tables")])
def test_an_old_database_is_not_ready_and_the_command_is_named(
    migrated: Flask, client: FlaskClient, output: io.StringIO, revision: str | None, fact: str
) -> None:
    """V2: in the answer and in the log."""
    set_revision(migrated, revision)
    response = client.get("/readyz")
    assert response.status_code == 503
    (problem,) = response.get_json()["error"]["fields"]["database"]
    assert problem.startswith(fact)
    assert f"needs {needed_revision()}" in problem or f"needs migration {needed_revision()}" in problem
    assert "manage.py db upgrade" in problem
    line = json.loads(output.getvalue().splitlines()[0])
    assert (line["event"], line["revision"], line["needed"]) == ("database.outdated", revision, needed_revision())
    assert "manage.py db upgrade" in line["message"]


def test_a_database_that_is_ahead_is_ready(migrated: Flask, client: FlaskClient) -> None:
    """During a rolling update, the previous release runs on the migrated tables."""
    set_revision(migrated, "9999")
    assert client.get("/readyz").status_code == 200


@pytest.fixture
def without_tables(database_url: str) -> Iterator[FlaskClient]:
    """A client of an application whose database has no tables."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        empty = url.set(database=f"{url.database}.empty")
    else:
        empty = make_url(create_database(url.render_as_string(hide_password=False), "gatehouse_without_tables"))
    app = create_app("testing", DATABASE_URL=empty.render_as_string(hide_password=False))
    app.test_client_class = DocumentedClient
    yield app.test_client()
    with app.app_context():
        db.engine.dispose()


def test_a_request_without_tables_gets_an_answer_that_names_the_command(
    without_tables: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    """V2: 503, and the log names the migration."""
    assert "Has no tables" in str(without_tables.get("/readyz").get_json())
    login = {"username": "alice-liddell", "password": PASSWORD}
    for path, body in (("/api/v1/login", login), ("/api/v1/users/", sign_up_body())):
        caplog.clear()
        response = without_tables.post(path, json=body)
        assert (response.status_code, response.get_json()["error"]["type"]) == (503, "database_unavailable")
        assert "manage.py db upgrade" in response.get_json()["message"]
        assert "manage.py db upgrade" in caplog.text


@pytest.mark.settings(JWT_ALGORITHM="EdDSA")
@pytest.mark.stores("sqlite", "postgresql")
def test_a_service_without_a_signing_key_is_not_ready(app: Flask, client: FlaskClient, output: io.StringIO) -> None:
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.get_json()["error"]["fields"] == {"signing_key": ["Is missing. Run `manage.py keys rotate`."]}
    assert "run `manage.py keys rotate`" in output.getvalue()
    assert app.test_cli_runner().invoke(args=["keys", "rotate"]).exit_code == 0
    assert client.get("/readyz").status_code == 200


def test_readiness_takes_two_queries(app: Flask, client: FlaskClient) -> None:
    """It is asked every few seconds by every balancer."""
    asked: list[object] = []
    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", lambda *arguments: asked.append(arguments))
    assert client.get("/readyz").status_code == 200
    assert len([1 for arguments in asked if not str(arguments[2]).startswith("BEGIN")]) <= 2
