"""The logs: one JSON line per request, and no secret anywhere."""

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, text
from werkzeug.test import TestResponse

from apps import create_app
from apps.cache.memory import MemoryCache
from apps.config import settings
from apps.extensions import db
from apps.observability.logs import Formatter
from apps.settings.urls import secrets_of
from tests.support.every_route import EveryRoute
from tests.support.people import PASSWORD, People, bearer, sign_up_body

MOBILES = ("13200001111", "13200002222")
CANARY = "canary-7Qe2vX"
# Places into which people and programs put secrets by mistake.
ASTRAY: dict[str, dict[str, Any]] = {
    "query": {"path": f"/api/v1/users/?access_token={CANARY}"},
    "path": {"path": f"/api/v1/{CANARY}"},
    "header": {"path": "/api/v1/users/", "headers": {"Authorization": f"Bearer {CANARY}"}},
    "basic": {"path": "/api/v1/users/", "headers": {"Authorization": f"Basic {CANARY}"}},
    "cookie": {"path": "/api/v1/users/", "headers": {"Cookie": f"access_token_cookie={CANARY}"}},
    "other headers": {"path": "/healthz", "headers": {"X-Api-Key": CANARY, "Referer": f"https://x/?t={CANARY}"}},
    "unfit request id": {"path": "/healthz", "headers": {"X-Request-ID": f"{CANARY} {CANARY}"}},
    "password that is none": {"path": "/api/v1/users/", "method": "POST", "json": sign_up_body(password=[CANARY])},
    "wrong password": {"path": "/api/v1/login", "method": "POST", "json": {"username": "nobody-x", "password": CANARY}},
    "password as name": {"path": "/api/v1/login", "method": "POST", "json": {"username": CANARY, "password": CANARY}},
    "unknown field": {"path": "/api/v1/users/", "method": "POST", "json": sign_up_body() | {"extra": CANARY}},
    "not JSON": {"path": "/api/v1/users/", "method": "POST", "data": CANARY, "content_type": "application/json"},
    "client secret": {"path": "/api/v1/introspect", "method": "POST", "auth": ("x", CANARY), "data": {"token": CANARY}},
}


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().split("\n") if line]


def requests(output: io.StringIO) -> list[dict[str, Any]]:
    return [line for line in lines(output) if line.get("event") == "request"]


def everything_stored(app: Flask) -> str:
    """Return all tables and the whole cache as text."""
    with app.app_context():
        rows = [db.session.execute(text(f"SELECT * FROM {table.name}")).all() for table in db.metadata.sorted_tables]
        db.session.rollback()
    store = app.extensions["cache"]
    if isinstance(store, MemoryCache):
        return repr((rows, store._entries))
    with redis.Redis.from_url(settings(app).REDIS_URL) as server:
        strings = [key for key in server.scan_iter() if server.type(key) == b"string"]
        return repr((rows, strings, server.mget(strings)))


def test_no_secret_is_logged_told_in_an_error_or_stored_in_clear(
    app: Flask, client: FlaskClient, output: io.StringIO
) -> None:
    """L1: after a successful request to each route."""
    every = EveryRoute(app, client)
    answers = [send() for _, send in every.requests]
    people = (every.alice, every.bob, every.admin, every.left, every.ended, every.revoked)
    secrets = {PASSWORD, "another another ", every.service_secret, *MOBILES}
    secrets |= {person.access_token for person in people} | {person.refresh_token for person in people}
    secrets |= {settings(app).JWT_SECRET_KEY, settings(app).FIELD_INDEX_KEY, *settings(app).FIELD_ENCRYPTION_KEYS}
    assert len(requests(output)) >= len(answers)
    for place in (output.getvalue(), everything_stored(app)):
        assert [secret for secret in secrets if secret in place] == []


@pytest.mark.parametrize("astray", ASTRAY.values(), ids=ASTRAY)
def test_a_secret_in_the_wrong_place_goes_nowhere(
    app: Flask, client: FlaskClient, output: io.StringIO, astray: dict[str, Any]
) -> None:
    """L1."""
    response = client.open(**astray)
    assert CANARY not in response.text
    assert CANARY not in output.getvalue()
    assert CANARY not in everything_stored(app)
    assert requests(output)[-1]["status"] == response.status_code


@contextlib.contextmanager
def statements(app: Flask, change: Callable[[str, Any], tuple[str, Any]]) -> Iterator[None]:
    """Change the statements that are sent to the database. `change` may also raise."""
    with app.app_context():
        engine = db.engine

    def before(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return change(statement, parameters)

    event.listen(engine, "before_cursor_execute", before, retval=True)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", before)


def explode(statement: str, parameters: Any) -> tuple[str, Any]:
    if statement.startswith("INSERT INTO users"):
        raise RuntimeError("unforeseen")
    return statement, parameters


def break_syntax(statement: str, parameters: Any) -> tuple[str, Any]:
    return statement.replace("INSERT INTO users", "INSERT INTO no_such_table"), parameters


def lose_a_value(statement: str, parameters: Any) -> tuple[str, Any]:
    if not statement.startswith("INSERT INTO users"):
        return statement, parameters
    if isinstance(parameters, dict):
        return statement, parameters | {"age": None}
    return statement, tuple(None if value == 18 else value for value in parameters)


@pytest.mark.parametrize("change", [explode, break_syntax, lose_a_value])
def test_a_fault_of_the_program_tells_no_secret(
    app: Flask, client: FlaskClient, output: io.StringIO, change: Callable[[str, Any], tuple[str, Any]]
) -> None:
    """L1: neither in the traceback nor in the database's error, which may quote a whole row."""
    with statements(app, change):
        response = client.post("/api/v1/users/", json=sign_up_body("alice-liddell"))
    assert response.status_code in (500, 503)
    assert [line["level"] for line in lines(output) if line["level"] == "ERROR"] == ["ERROR"]
    for secret in (PASSWORD, "argon2id", "alice-liddell", *MOBILES):
        assert secret not in response.text + output.getvalue()


def test_every_request_is_one_line_that_says_what_happened(people: People, output: io.StringIO) -> None:
    """L2."""
    alice = people.sign_up()
    response = alice.get(f"/users/{alice.id}")
    line = requests(output)[-1]
    assert (line["method"], line["route"], line["status"]) == ("GET", "/api/v1/users/<id:user_id>", 200)
    assert (line["user_id"], line["level"]) == (alice.id, "INFO")
    assert line["request_id"] == response.headers["X-Request-ID"]
    assert line["milliseconds"] > 0
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)


@pytest.mark.stores("sqlite")
def test_a_refusal_is_a_line_as_well(client: FlaskClient, output: io.StringIO) -> None:
    """L2."""
    sent = [("GET", "/nowhere"), ("PUT", "/healthz"), ("GET", "/api/v1/users/"), ("POST", "/api/v1/login")]
    statuses = [client.open(path, method=method).status_code for method, path in sent]
    assert [line["status"] for line in requests(output)] == statuses == [404, 405, 401, 415]
    assert requests(output)[0]["route"] is None


FORGED = '\r\n{"event": "request", "status": 200}\n'
FORGERIES: dict[str, Callable[[FlaskClient], TestResponse]] = {
    "user agent": lambda client: client.get("/healthz", environ_overrides={"HTTP_USER_AGENT": f"curl{FORGED}"}),
    "request id": lambda client: client.get("/healthz", environ_overrides={"HTTP_X_REQUEST_ID": f"12345678{FORGED}"}),
    "path": lambda client: client.get("/a%0d%0a%7b%22event%22%3a%22request%22%7d%0a"),
    "username": lambda client: client.post("/api/v1/login", json={"username": f"alice{FORGED}", "password": "x"}),
    "address": lambda client: client.get("/healthz", environ_overrides={"REMOTE_ADDR": f"::1{FORGED}"}),
    "user agent of a session": lambda client: client.post(
        "/api/v1/users/", json=sign_up_body(), environ_overrides={"HTTP_USER_AGENT": f"curl{FORGED}"}
    ),
}


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize("send", FORGERIES.values(), ids=FORGERIES)
def test_nobody_forges_a_line(client: FlaskClient, output: io.StringIO, send: Callable[[FlaskClient], Any]) -> None:
    """L2: line breaks are escaped or left out."""
    send(client)
    assert len(requests(output)) == 1
    assert "\r" not in output.getvalue()


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize(
    ("given", "is_kept"), [("trace-1234.5_6", True), ("short", False), ("a" * 65, False), ("é" * 9, False)]
)
def test_a_request_id_is_kept_when_it_is_one(
    client: FlaskClient, output: io.StringIO, given: str, is_kept: bool
) -> None:
    """L2: a request can be traced through several services."""
    response = client.get("/healthz", headers={"X-Request-ID": given})
    assert (response.headers["X-Request-ID"] == given) is is_kept
    assert requests(output)[0]["request_id"] == response.headers["X-Request-ID"]


@pytest.mark.stores("sqlite")
@pytest.mark.settings(LOG_LEVEL="WARNING")
def test_the_level_is_a_setting(client: FlaskClient, output: io.StringIO) -> None:
    client.get("/healthz")
    assert output.getvalue() == ""


@pytest.mark.stores("sqlite")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_log_that_takes_nothing_breaks_nothing(people: People, output: io.StringIO) -> None:
    """V6."""
    handler = logging.getLogger("apps").handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    full = Path("/dev/full").open("w")  # noqa: SIM115 (closing it raises an error)
    handler.stream = full
    alice = people.sign_up()
    assert alice.client.get("/api/v1/users/", headers=bearer(alice.access_token)).status_code == 200
    handler.stream = output
    with contextlib.suppress(OSError):
        full.close()


ODD_TEXTS = ["张三丰", "a\r\nb\x00\x1b[2J", "\u2028\u2029\u202e", "half \ud800 of a pair", '"\\']


@pytest.mark.parametrize("number", range(len(ODD_TEXTS)))
def test_a_line_is_ascii_and_says_what_was_said(number: int) -> None:
    """L2: no terminal or viewer takes its text for a line end or a control sequence."""
    text = ODD_TEXTS[number]
    facts = {"name": "apps.test", "levelname": "INFO", "msg": "%s", "args": (text,), "cause": text, "odd": Path("x")}
    written = Formatter().format(logging.makeLogRecord(facts))
    assert written.isascii()
    assert all(character.isprintable() for character in written)
    line = json.loads(written)
    assert (line["message"], line["cause"], line["odd"]) == (text, text, "x")
    assert (line["logger"], line["level"], line["request_id"]) == ("apps.test", "INFO", None)


def test_the_text_of_a_driver_holds_no_secret_of_the_settings() -> None:
    """L1: neither as the driver got it, nor percent-encoded as in the URL, nor in a traceback."""
    password, key = "S3cr@t/Tail99", "GATEHOUSE-w8sYkT5uXr2LhBz7Md1PcAe9Gf0n"
    url = "://u:S3cr%40t%2FTail99@127.0.0.1"
    app = create_app(
        "testing",
        DATABASE_URL=f"postgresql{url}/d",
        REDIS_URL="redis://127.0.0.1:6379?password=Other99",
        JWT_SECRET_KEY=key,
    )
    formatter = Formatter(secrets_of(settings(app)))
    error = OSError(f"{url} {password} {key} Other99")
    facts = {"cause": str(error), "exc_info": (OSError, error, None), "msg": "failed"}
    line = json.loads(formatter.format(logging.makeLogRecord(facts)))
    assert line["cause"] == "://u:***@127.0.0.1 *** *** ***"
    assert not [secret for secret in ("Tail99", key, "Other99") if secret in str(line)]
    assert formatter.format(logging.makeLogRecord({"msg": "x"}))


@pytest.mark.stores("sqlite")
def test_what_follows_a_request_is_not_of_it(people: People, output: io.StringIO) -> None:
    """L2: the next lines of the same thread have neither its id nor its user."""
    people.sign_up().get("/users/")
    logging.getLogger("apps.test").info("after")
    people.client.get("/healthz")
    read, after, probe = lines(output)[-3:]
    assert [line["message"] for line in (read, after, probe)] == ["request", "after", "request"]
    assert read["user_id"]
    assert (after["request_id"], probe["user_id"]) == (None, None)
    assert probe["request_id"] not in (read["request_id"], None)
