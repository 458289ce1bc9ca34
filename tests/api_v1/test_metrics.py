"""/metrics of one process. tests/faults/test_metrics.py covers several processes and a killed one."""

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from apps import create_app
from apps.about import ROOT
from apps.config import settings
from apps.errors import Overloaded
from apps.extensions import db
from apps.security import password_hash
from tests.faults import wait_until
from tests.support import live, metrics
from tests.support.every_route import EveryRoute
from tests.support.people import PASSWORD, People, bearer, sign_up_body

REQUESTS = "gatehouse_http_request_duration_seconds_count"
LOOKUPS = "gatehouse_cache_lookups_total"
IN_USE = "gatehouse_database_connections_in_use"
QUEUE = "gatehouse_password_hash_queue"

pytestmark = [pytest.mark.stores("sqlite"), pytest.mark.settings(METRICS_TOKEN=metrics.TOKEN)]


def scrape(client: FlaskClient) -> metrics.Samples:
    response = client.get("/metrics", headers=bearer(metrics.TOKEN))
    assert response.status_code == 200
    assert response.mimetype == "text/plain"
    return metrics.parse(response.text)


def counted(client: FlaskClient, name: str, **labels: str) -> float:
    return metrics.total(scrape(client), name, **labels)


@pytest.mark.settings
def test_without_a_token_there_are_no_metrics(client: FlaskClient) -> None:
    assert client.get("/metrics", headers=bearer("")).status_code == 404
    assert client.get("/metrics", headers=bearer(metrics.TOKEN)).status_code == 404


def test_what_watches_the_service_is_imported_only_where_it_is_asked_for() -> None:
    code = """
import sys
from apps import create_app
create_app("testing", DATABASE_URL="sqlite://")
ours = {f"apps.observability.{name}" for name in ("metrics", "tracing", "sentry")}
watchers = {"prometheus_client", "sentry_sdk"} | ours
print(sorted(watchers & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=live.unconfigured(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_request_is_counted_under_its_route_never_its_path(people: People, client: FlaskClient) -> None:
    alice = people.sign_up()
    for _ in range(3):
        alice.get(f"/users/{alice.id}")
    route = "/api/v1/users/<id:user_id>"
    assert counted(client, REQUESTS, method="GET", route=route, status="200", error="") == 3
    assert counted(client, "gatehouse_http_request_duration_seconds_sum", method="GET", route=route) > 0
    assert counted(client, "gatehouse_http_request_duration_seconds_bucket", route=route, le="+Inf") == 3


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "no token": ({"path": "/api/v1/users/"}, {"status": "401", "error": "missing_token", "route": "/api/v1/users/"}),
    "no path": ({"path": "/nowhere"}, {"status": "404", "error": "not_found", "route": "none"}),
    "no method": (
        {"path": "/healthz", "method": "PUT"},
        {"status": "405", "error": "method_not_allowed", "route": "none", "method": "PUT"},
    ),
    "no JSON": (
        {"path": "/api/v1/login", "method": "POST"},
        {"status": "415", "error": "unsupported_media_type", "route": "/api/v1/login"},
    ),
    "a bad body": (
        {"path": "/api/v1/login", "method": "POST", "json": {}},
        {"status": "400", "error": "invalid_body", "route": "/api/v1/login"},
    ),
}


@pytest.mark.parametrize(("sent", "labels"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_counted_under_the_type_of_its_envelope(
    client: FlaskClient, sent: dict[str, Any], labels: dict[str, str]
) -> None:
    response = client.open(**sent)
    assert response.get_json()["error"]["type"] == labels["error"]
    assert counted(client, REQUESTS, **labels) == 1


@pytest.mark.settings(METRICS_TOKEN=metrics.TOKEN, LOGIN_LIMIT="2/minute")
def test_requests_over_a_limit_are_counted(client: FlaskClient) -> None:
    for _ in range(5):
        client.post("/api/v1/login", json={"username": "nobody-x", "password": PASSWORD})
    assert counted(client, REQUESTS, route="/api/v1/login", status="401", error="wrong_credentials") == 2
    assert counted(client, REQUESTS, route="/api/v1/login", status="429", error="too_many_requests") == 3


def test_a_fault_of_the_program_is_counted(app: Flask, client: FlaskClient) -> None:
    def explode(*_: Any) -> None:
        raise RuntimeError("unforeseen")

    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", explode)
    assert client.post("/api/v1/users/", json=sign_up_body()).status_code == 500
    with app.app_context():
        event.remove(db.engine, "before_cursor_execute", explode)
    assert counted(client, REQUESTS, status="500", error="internal_error") == 1


def test_nobody_adds_a_series_by_what_they_send(client: FlaskClient) -> None:
    """New paths, methods and names add no series."""

    def send(text: str) -> None:
        client.get(f"/{text}")
        client.open("/healthz", method=text.upper())
        client.get("/healthz", headers={"X-Request-ID": text, "User-Agent": text, "Host": text})
        client.post("/api/v1/login", json={"username": text, "password": text})
        client.get("/api/v1/users/", headers=bearer(text))

    send("canary-first")
    scrape(client)
    before = set(scrape(client))
    letters = random.Random(4)
    for _ in range(30):
        send("canary-" + "".join(letters.choices("abcdefghijkl", k=12)))
    assert set(scrape(client)) == before
    assert not any("canary" in value for _, labels in before for _, value in labels)


def test_no_secret_and_no_name_is_in_the_metrics(app: Flask, client: FlaskClient) -> None:
    """L1: after a request to each route."""
    every = EveryRoute(app, client)
    for _, send in every.requests:
        assert send().status_code == 200
    scrape(client)  # a scrape does not count itself
    text = client.get("/metrics", headers=bearer(metrics.TOKEN)).text
    people = (every.alice, every.bob, every.admin)
    secrets = {PASSWORD, every.service_secret, every.service_id, "13200001111", metrics.TOKEN}
    secrets |= {secret for person in people for secret in (person.username, person.access_token, person.refresh_token)}
    assert [secret for secret in secrets if secret in text] == []
    routes = {dict(labels).get("route") for _, labels in metrics.parse(text)} - {None}
    assert routes == {rule.rule for rule in app.url_map.iter_rules()}


def test_password_hashes_are_timed(people: People, client: FlaskClient) -> None:
    alice = people.sign_up()
    people.log_in(alice.username)
    samples = scrape(client)
    assert metrics.total(samples, "gatehouse_password_hash_seconds_count") == 2
    assert metrics.total(samples, "gatehouse_password_hash_wait_seconds_count") == 2
    assert metrics.total(samples, "gatehouse_password_hash_seconds_sum") > 0
    assert metrics.total(samples, QUEUE) == 0


@pytest.mark.settings(METRICS_TOKEN=metrics.TOKEN, PASSWORD_HASH_CONCURRENCY=1, PASSWORD_HASH_TIMEOUT=2)
def test_hashes_that_wait_are_counted_until_they_begin_or_give_up(app: Flask, client: FlaskClient) -> None:
    def hash_one(_: int) -> str:
        with app.app_context():
            return password_hash.hash_password(PASSWORD)

    free = threading.Event()
    busy = app.extensions["hashing"].threads.submit(free.wait, 30)
    with ThreadPoolExecutor(2) as pool:
        gave_up = [pool.submit(hash_one, number) for number in range(2)]
        wait_until(lambda: counted(client, QUEUE) == 2)
        assert [type(one.exception(10)) for one in gave_up] == [Overloaded] * 2
        assert counted(client, QUEUE) == 0
        began = pool.submit(hash_one, 2)
        wait_until(lambda: counted(client, QUEUE) == 1)
        free.set()
        assert began.result(10)
    assert busy.result(10)
    assert counted(client, QUEUE) == 0


@pytest.mark.stores("sqlite", "postgresql")
def test_the_cache_is_counted(app: Flask, people: People, client: FlaskClient) -> None:
    alice = people.sign_up()
    before = scrape(client)
    assert alice.get("/users/").get_json()["data"]["cache"] is True
    hit = scrape(client)
    assert metrics.total(hit, LOOKUPS, result="hit") > metrics.total(before, LOOKUPS, result="hit")
    assert metrics.total(hit, LOOKUPS, result="miss") == metrics.total(before, LOOKUPS, result="miss")
    forget_everything(app, alice.id)
    assert "cache" not in alice.get("/users/").get_json()["data"]
    assert counted(client, LOOKUPS, result="miss") > metrics.total(hit, LOOKUPS, result="miss")


def forget_everything(app: Flask, user_id: int) -> None:
    store = app.extensions["cache"]
    if hasattr(store, "_entries"):
        store._entries.clear()
    else:
        store._get_client().execute_command("FLUSHDB")


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
def test_connections_in_use_are_counted(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        with db.engine.connect(), db.engine.connect():
            assert counted(client, IN_USE) == 2
        with db.engine.connect() as connection:
            connection.invalidate()
        assert counted(client, IN_USE) == 0
    assert counted(client, "gatehouse_database_pool_size") >= 2


def test_a_connection_that_cannot_be_opened_is_in_nobodys_use(app: Flask, client: FlaskClient) -> None:
    """The pool takes it back without having handed it out."""

    def refuse(*_: Any) -> None:
        raise OSError

    with app.app_context():
        with db.engine.connect() as connection:
            connection.invalidate()
        event.listen(db.engine, "do_connect", refuse)
        with pytest.raises(OSError):
            db.engine.connect()
        event.remove(db.engine, "do_connect", refuse)
    assert counted(client, IN_USE) == 0


@pytest.mark.stores("postgresql")
def test_a_removed_cache_entry_is_counted(app: Flask, people: People, client: FlaskClient) -> None:
    """K3."""
    alice = people.sign_up()
    with redis.Redis.from_url(settings(app).REDIS_URL) as server:
        server.setrange(server.keys("*:user")[0], 3_000_000, b"x")
    assert [alice.get("/users/").get_json()["data"].get("cache") for _ in range(2)] == [None, True]
    assert counted(client, "gatehouse_redis_values_removed_total", kind="cache entry") == 1


@pytest.fixture
def without_stores() -> Iterator[FlaskClient]:
    app = create_app(
        "testing",
        DATABASE_URL="sqlite:////no/such/folder/x",
        REDIS_URL="unix:///no/such/socket",
        METRICS_TOKEN=metrics.TOKEN,
    )
    yield app.test_client()
    app.extensions["cache"]._is_open = False  # stops the reconnection probes


def test_metrics_need_no_store_and_tell_that_the_cache_is_gone(without_stores: FlaskClient) -> None:
    """V2: the route answers during an outage of the stores."""
    assert without_stores.get("/readyz").status_code == 503
    samples = scrape(without_stores)
    assert metrics.total(samples, REQUESTS, status="503", error="not_ready") == 1
    assert metrics.total(samples, "gatehouse_cache_errors_total") == 1
    assert metrics.total(samples, "gatehouse_cache_breaker_open") == 1


def test_two_applications_count_for_themselves(client: FlaskClient) -> None:
    other = create_app("testing", DATABASE_URL="sqlite://", METRICS_TOKEN=metrics.TOKEN).test_client()
    other.get("/healthz")
    assert counted(other, REQUESTS, route="/healthz") == 1
    assert counted(client, REQUESTS, route="/healthz") == 0
