"""The database refuses, hangs, cuts connections or waits for a lock: 503 in bounded time, never a wrong answer."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool
from werkzeug.test import TestResponse

from apps.services.identity_cache import user_key
from tests.faults import wait_until
from tests.support import live, stores
from tests.support.every_route import EveryRoute
from tests.support.people import PASSWORD, People, Person, bearer, sign_up_body
from tests.support.proxy import Proxy, through_proxy

with_server = pytest.mark.stores("postgresql", "mariadb")  # the drivers differ
# Seconds: one for the ping of an idle connection or two for a new connection, and two more for a busy machine.
BOUND = 2 + 2


class Way(NamedTuple):
    """How a database fails and comes back."""

    go: Callable[[Proxy], object]
    return_: Callable[[Proxy], object]


WAYS = {
    "refuses": Way(Proxy.refuse, Proxy.listen),
    "hangs": Way(lambda proxy: setattr(proxy, "is_silent", True), lambda proxy: setattr(proxy, "is_silent", False)),
}
in_each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with through_proxy(database_url) as (proxy, url):
        proxy.url = url
        yield proxy


@pytest.fixture
def app(request: pytest.FixtureRequest, store: str, database_url: str) -> Iterator[Flask]:
    """An application that reaches its database through the proxy, if it is a server."""
    marker = request.node.get_closest_marker("settings")
    proxy = None if store == "sqlite" else request.getfixturevalue("proxy")
    with stores.application(proxy.url if proxy else database_url, "", **(marker.kwargs if marker else {})) as app:
        yield app
        if proxy:
            proxy.is_silent = False
            proxy.listen()
            wait_until_back(app)


def wait_until_back(app: Flask) -> None:
    """Wait until the service uses its database again; it tries once a second."""
    wait_until(lambda: FlaskClient(app).get("/readyz").status_code == 200, 3)


def forget(app: Flask, person: Person) -> None:
    with app.app_context():
        app.extensions["cache"].forget(user_key(person.id))


def requests_to_the_database(app: Flask, alice: Person) -> dict[str, Callable[[], TestResponse]]:
    """Return a request to each route that needs the database, each with its own client."""
    body, mine = sign_up_body(alice.username), f"/api/v1/users/{alice.id}"
    login = {"username": alice.username, "password": PASSWORD}
    headers = bearer(alice.access_token)
    return {
        "sign up": lambda: app.test_client().post("/api/v1/users/", json=sign_up_body()),
        "log in": lambda: app.test_client().post("/api/v1/login", json=login),
        "log out": lambda: app.test_client().post("/api/v1/logout", headers=headers),
        "update": lambda: app.test_client().put(mine, headers=headers, json=body),
        "change": lambda: app.test_client().patch(mine, headers=headers, json={"mobile": "13200002222"}),
        "delete": lambda: app.test_client().delete(mine, headers=headers),
    }


def timed(send: Callable[[], TestResponse]) -> tuple[TestResponse, float]:
    started = time.perf_counter()
    return send(), time.perf_counter() - started


@with_server
@in_each_way
def test_every_route_that_needs_the_database_says_503_in_time(
    app: Flask, people: People, proxy: Proxy, way: Way
) -> None:
    """V2: at once if it refuses, in two seconds if it hangs; a second after its return all is as before."""
    alice = people.sign_up()
    sends = requests_to_the_database(app, alice)
    way.go(proxy)
    with ThreadPoolExecutor(len(sends)) as threads:
        answers = dict(zip(sends, threads.map(timed, sends.values()), strict=True))
    types = {name: (answer.status_code, answer.get_json()["error"]["type"]) for name, (answer, _) in answers.items()}
    assert types == dict.fromkeys(sends, (503, "database_unavailable"))
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer, _ in answers.values())
    assert max(seconds for _, seconds in answers.values()) < BOUND
    way.return_(proxy)
    wait_until_back(app)
    forget(app, alice)
    assert alice.get("/users/").get_json()["data"]["mobile"] == "13200001111"


@with_server
def test_no_route_takes_a_dead_database_for_a_fault_of_the_client(app: Flask, people: People, proxy: Proxy) -> None:
    """V2: the answer is never 401, 404 or 409."""
    requests = dict(EveryRoute(app, people.client).requests)
    proxy.refuse()
    answers = {route: send() for route, send in requests.items()}
    refused = {
        route: answer.get_json()["error"]["type"] for route, answer in answers.items() if answer.status_code != 200
    }
    assert refused.pop("GET /readyz") == "not_ready"
    assert set(refused.values()) == {"database_unavailable"}
    without = {"GET /healthz", "GET /api/v1/openapi.json", "GET /api/v1/docs", "GET /api/v1/docs/<asset>"}
    without |= {"GET /api/v1/settings"}
    cached = {"GET /api/v1/users/", "GET /api/v1/users/<id:user_id>", "POST /api/v1/refresh"}
    assert set(answers) - set(refused) - {"GET /readyz", "GET /.well-known/jwks.json"} == without | cached


@with_server
@in_each_way
def test_tokens_stay_good_and_bad_while_the_database_is_gone(
    app: Flask, people: People, proxy: Proxy, way: Way
) -> None:
    """V2: a 401 would make a client discard its session."""
    alice, bob = people.sign_up(), people.sign_up()
    forget(app, bob)
    way.go(proxy)
    assert alice.get("/users/").get_json()["data"]["cache"] is True
    assert alice.refresh().status_code == 200
    assert bob.get("/users/").get_json()["error"]["type"] == "database_unavailable"
    assert bob.get("/users/", token=bob.access_token[:-8] + "AAAAAAAA").status_code == 401
    assert people.client.get("/api/v1/users/").status_code == 401


@with_server
@in_each_way
def test_the_process_lives_but_is_not_ready(app: Flask, people: People, proxy: Proxy, way: Way) -> None:
    """V2: a balancer stops sending requests, but the process is not restarted: that would not help."""
    way.go(proxy)
    assert people.client.get("/healthz").status_code == 200
    response = people.client.get("/readyz")
    assert response.status_code == 503
    assert response.get_json()["error"] == {"type": "not_ready", "fields": {"database": ["Does not respond."]}}
    way.return_(proxy)
    wait_until_back(app)


@with_server
def test_a_database_that_was_restarted_costs_no_request(app: Flask, people: People, proxy: Proxy) -> None:
    """F17."""
    alice = people.sign_up()
    proxy.cut()
    assert alice.patch(f"/users/{alice.id}", json={"mobile": "13200002222"}).status_code == 200


@with_server
@pytest.mark.settings(STATEMENT_TIMEOUT=1)
def test_a_statement_that_is_never_answered_ends_and_serves_nobody_else(
    app: Flask, people: People, proxy: Proxy
) -> None:
    """V3: a late answer is dropped with its connection."""
    alice = people.sign_up()
    lost = proxy.hold(b"UPDATE users")
    response, seconds = timed(lambda: alice.patch(f"/users/{alice.id}", json={"mobile": "13200002222"}))
    assert lost.reached.is_set()
    assert response.get_json()["error"]["type"] == "database_unavailable"
    assert seconds < BOUND
    lost.release()
    assert people.sign_up().get("/users/").status_code == 200
    assert alice.patch(f"/users/{alice.id}", json={"mobile": "13200003333"}).status_code == 200


@contextmanager
def holding_lock(url: str, locks: dict[str, list[str]]) -> Iterator[None]:
    """Hold a lock from another connection."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in locks[engine.dialect.name]:
            connection.exec_driver_sql(statement)
        yield
        connection.exec_driver_sql("ROLLBACK")


ROW_LOCKS = {
    "sqlite": ["BEGIN IMMEDIATE"],
    "postgresql": ["BEGIN", "SELECT * FROM users FOR UPDATE"],
    "mysql": ["BEGIN", "SELECT * FROM users FOR UPDATE"],
}
TABLE_LOCKS = {
    "postgresql": ["BEGIN", "LOCK TABLE users"],
    "mysql": ["LOCK TABLES users WRITE, sessions WRITE"],
}


@pytest.mark.settings(STATEMENT_TIMEOUT=1)
def test_a_locked_row_bounds_a_write_and_leaves_readers_alone(app: Flask, people: People, database_url: str) -> None:
    """V3."""
    alice = people.sign_up()
    forget(app, alice)
    with holding_lock(database_url, ROW_LOCKS):
        response, seconds = timed(lambda: alice.patch(f"/users/{alice.id}", json={"mobile": "13200002222"}))
        assert response.get_json()["error"]["type"] == "database_unavailable"
        assert seconds < BOUND
        assert alice.get("/users/").get_json()["data"]["mobile"] == "13200001111"
    assert alice.patch(f"/users/{alice.id}", json={"mobile": "13200002222"}).status_code == 200


@with_server
@pytest.mark.settings(STATEMENT_TIMEOUT=1)
def test_a_locked_table_bounds_every_request(app: Flask, people: People, database_url: str) -> None:
    """V3: a request that does not use the table still succeeds."""
    alice = people.sign_up()
    forget(app, alice)
    with holding_lock(database_url, TABLE_LOCKS):
        response, seconds = timed(lambda: alice.get("/users/"))
        assert response.get_json()["error"]["type"] == "database_unavailable"
        assert seconds < BOUND
        assert people.client.get("/readyz").status_code == 200
    assert alice.get("/users/").status_code == 200


@with_server
@pytest.mark.settings(DATABASE_POOL_SIZE=1, DATABASE_TIMEOUT=1, STATEMENT_TIMEOUT=3)
def test_a_full_pool_bounds_every_request(app: Flask, people: People, database_url: str) -> None:
    """V3, F17: while one request waits for a lock, one that gets no connection in time is answered with 503."""
    alice, bob = people.sign_up(), people.sign_up()
    forget(app, bob)
    with holding_lock(database_url, ROW_LOCKS), ThreadPoolExecutor(1) as thread:
        sends = requests_to_the_database(app, alice)
        waiting = thread.submit(sends["change"])
        time.sleep(0.3)  # until it holds the only connection
        response, seconds = timed(lambda: bob.get("/users/"))
        assert response.get_json()["error"]["type"] == "database_unavailable"
        assert seconds < BOUND
        assert waiting.result().status_code == 503


@with_server
def test_a_locked_table_leaves_threads_for_the_rest(database_url: str, tmp_path: Path) -> None:
    """V3: with thirty requests for the table and eight threads, the probe and further requests are answered at once."""
    settings = {"GATEHOUSE_STATEMENT_TIMEOUT": "10", "DATABASE_URL": database_url}
    with live.live_server(tmp_path, "serve", "--threads=8", **settings) as server:
        alice = server.send("POST", "/api/v1/users/", sign_up_body())[1]["data"]
        change = ("PATCH", f"/api/v1/users/{alice['id']}", {"info": {"age": 40}}, alice["access_token"])
        with ThreadPoolExecutor(30) as threads, holding_lock(database_url, TABLE_LOCKS):
            changes = [threads.submit(server.send, *change) for _ in range(30)]
            wait_until(lambda: sum(change.done() for change in changes) >= 20, 8)
            assert {change.result()[0] for change in changes if change.done()} == {503}
            assert server.send("GET", "/healthz")[0] == 200
            assert not all(change.done() for change in changes)  # some still wait for the table
