"""Redis refuses, hangs, is read-only or full: the service is slower, never wrong (V1)."""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import NamedTuple

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from apps.cache import redis as redis_cache
from apps.config import BaseConfig
from apps.extensions import db
from tests.faults import RedisServer, redis_server, wait_until
from tests.support import stores
from tests.support.every_route import EveryRoute
from tests.support.people import PASSWORD, People, Person, bearer, sign_up_body
from tests.support.proxy import through_proxy

pytestmark = pytest.mark.stores("sqlite")  # any would do: the database stays up

HEALTHY = 0.5  # seconds; the limit for any request on a busy machine
ADDED = 0.25  # seconds; what a Redis failure may add (V1)


class State(NamedTuple):
    """A failure of Redis: how it begins and how it ends."""

    begin: Callable[[RedisServer], object]
    end: Callable[[RedisServer], object]


STATES = {
    "killed": State(RedisServer.kill, RedisServer.start),
    "hung": State(RedisServer.freeze, RedisServer.thaw),
    "read-only": State(
        lambda redis: redis.client.replicaof("127.0.0.1", 1), lambda redis: redis.client.replicaof("no", "one")
    ),
    "full": State(
        lambda redis: redis.client.config_set("maxmemory", 1), lambda redis: redis.client.config_set("maxmemory", 0)
    ),
}
in_every_state = pytest.mark.parametrize("state", STATES.values(), ids=STATES)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def app(database_url: str, server: RedisServer) -> Iterator[Flask]:
    """An application on the test's own Redis."""
    with stores.application(database_url, "", REDIS_URL=server.url, REDIS_TIMEOUT=BaseConfig.REDIS_TIMEOUT) as app:
        yield app
    forget_failures(app)


def forget_failures(app: Flask) -> None:
    """Close the breakers and trust the cache, so that the next request reaches Redis itself."""
    app.extensions["cache"]._is_open = False
    app.extensions["cache"]._trusted_since = 0.0
    app.extensions["limits"]._breaker.close()


def wait_until_trusted(app: Flask) -> None:
    wait_until(app.extensions["cache"].ping)


@in_every_state
def test_every_route_answers_as_ever_and_in_time(app: Flask, server: RedisServer, state: State) -> None:
    """V1: each request is the first after the failure. A busy machine may delay one, but not the same one twice."""
    slow = slow_routes(app, server, state)
    if slow:
        slow &= slow_routes(app, server, state)
    assert slow == set()


def slow_routes(app: Flask, server: RedisServer, state: State) -> set[str]:
    """Send each route its first request after the failure, and return the routes that took too long."""
    client = FlaskClient(app)  # not DocumentedClient, which is slow
    assert {send().status_code for _, send in EveryRoute(app, client).requests} == {200}  # healthy, and warmed up
    requests = EveryRoute(app, client).requests
    state.begin(server)
    slow = set()
    for route, send in requests:
        forget_failures(app)
        started = time.perf_counter()
        assert send().status_code == 200, route
        if time.perf_counter() - started > HEALTHY + ADDED:
            slow.add(route)
    state.end(server)
    wait_until_trusted(app)
    return slow


@in_every_state
def test_requests_that_meet_the_failure_at_once_all_succeed(
    app: Flask, server: RedisServer, people: People, state: State
) -> None:
    """V1."""
    alice = people.sign_up()
    credentials = {"username": alice.username, "password": PASSWORD}
    forget_failures(app)
    state.begin(server)
    start = Barrier(8)

    def log_in(_: int) -> int:
        start.wait()
        return FlaskClient(app).post("/api/v1/login", json=credentials).status_code

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(log_in, range(8))) == [200] * 8


@pytest.mark.parametrize("name", ["read-only", "full"])
def test_what_one_process_could_not_tell_no_other_believes(
    app: Flask, server: RedisServer, database_url: str, name: str
) -> None:
    """K5: Redis still answers reads, so the other process notices the failure only by the epoch."""
    with stores.application(database_url, "", REDIS_URL=server.url) as other:
        alice = People(FlaskClient(app)).sign_up()
        elsewhere = Person(FlaskClient(other), alice.id, alice.username, alice.access_token, alice.refresh_token)
        assert elsewhere.get("/users/").get_json()["data"]["cache"] is True
        STATES[name].begin(server)
        assert alice.patch(f"/users/{alice.id}", json={"mobile": "13200002222"}).status_code == 200
        assert elsewhere.get("/users/").get_json()["data"]["mobile"] == "13200002222"
        assert not other.extensions["cache"].ping()


@in_every_state
def test_redis_is_used_again_when_it_is_back(app: Flask, server: RedisServer, people: People, state: State) -> None:
    """V1: without a restart."""
    alice = people.sign_up()
    state.begin(server)
    new = {"mobile": "13200002222"}
    assert alice.patch(f"/users/{alice.id}", json=new).status_code == 200
    assert alice.get("/users/").get_json()["data"]["mobile"] == new["mobile"]
    state.end(server)
    wait_until_trusted(app)
    first, second = (alice.get("/users/").get_json()["data"] for _ in range(2))
    assert (first["mobile"], "cache" in first) == (new["mobile"], False)
    assert (second["mobile"], second["cache"]) == (new["mobile"], True)


def test_the_service_starts_without_redis(app: Flask, server: RedisServer, database_url: str) -> None:
    """V1."""
    server.kill()
    with stores.application(database_url, "", REDIS_URL=server.url) as fresh:
        alice = People(fresh.test_client()).sign_up()
        assert alice.get("/users/").status_code == 200
        server.start()
        wait_until_trusted(fresh)


def test_readiness_names_the_cache_and_stays_ready(app: Flask, server: RedisServer) -> None:
    server.freeze()
    response = app.test_client().get("/readyz")
    assert response.status_code == 200
    assert response.get_json()["data"] == {"database": True, "cache": False}


def test_limits_hold_without_redis_and_return_to_it(database_url: str, server: RedisServer) -> None:
    """V1, B2: meanwhile each process counts locally."""

    def sign_up() -> int:
        return client.post("/api/v1/users/", json=sign_up_body()).status_code

    with stores.application(database_url, "", REDIS_URL=server.url, SIGN_UP_LIMIT="3/hour") as app:
        client = app.test_client()
        assert sign_up() == 200
        server.kill()
        assert [sign_up() for _ in range(5)] == [200, 200, 200, 429, 429]
        server.start()
        wait_until(lambda: sign_up() == 200)  # within a good second; the restarted Redis is empty
        assert [sign_up() for _ in range(3)] == [200, 200, 429]
        assert any(key.startswith("LIMITS:") for key in server.client.scan_iter())


def test_guesses_at_a_password_are_counted_without_redis(database_url: str, server: RedisServer) -> None:
    """B1: they are counted in the database, so an attack on Redis gains no guesses."""
    settings = {"REDIS_URL": server.url, "FAILED_LOGIN_ALLOWANCE": 3}
    with stores.application(database_url, "", **settings) as app:
        alice = People(app.test_client()).sign_up()
        server.kill()
        guess = {"username": alice.username, "password": "wrong horse battery"}
        answers = [app.test_client().post("/api/v1/login", json=guess).status_code for _ in range(6)]
        assert answers == [401, 401, 401, 429, 429, 429]
    forget_failures(app)


@pytest.mark.parametrize("name", ["killed", "hung"])
def test_redis_goes_between_the_commit_and_the_cache(
    app: Flask, server: RedisServer, people: People, database_url: str, name: str
) -> None:
    """K5: the update succeeds, and every process reads it, also after the recovery."""
    alice = people.sign_up()
    with stores.application(database_url, "", REDIS_URL=server.url) as second:
        with app.app_context():
            event.listen(db.session, "after_commit", lambda _: STATES[name].begin(server), once=True)
        assert alice.patch(f"/users/{alice.id}", json={"mobile": "13200002222"}).status_code == 200
        assert alice.get("/users/").get_json()["data"]["mobile"] == "13200002222"
        STATES[name].end(server)
        wait_until_trusted(app)
        for client in (app.test_client(), second.test_client()):
            read = client.get("/api/v1/users/", headers=bearer(alice.access_token))
            assert read.get_json()["data"]["mobile"] == "13200002222"


def status_of(app: Flask, token: str) -> int:
    return FlaskClient(app).get("/api/v1/users/", headers=bearer(token)).status_code


@in_every_state
def test_a_logout_while_redis_is_away_reaches_an_idle_process_with_the_recovery(
    app: Flask, server: RedisServer, people: People, database_url: str, state: State
) -> None:
    """K7, R6."""
    alice = people.sign_up()
    with stores.application(database_url, "", REDIS_URL=server.url) as second:
        assert status_of(second, alice.access_token) == 200
        state.begin(server)
        assert alice.post("/logout").status_code == 200
        assert status_of(app, alice.access_token) == 401
        state.end(server)
        wait_until_trusted(app)
        assert [status_of(each, alice.access_token) for each in (app, second)] == [401, 401]


@pytest.mark.parametrize("name", ["killed", "hung"])
def test_a_logout_while_redis_is_away_reaches_a_busy_process_at_once(
    app: Flask, server: RedisServer, people: People, database_url: str, name: str
) -> None:
    """K7, R6: it uses no old entry when Redis is back."""
    alice = people.sign_up()
    with stores.application(database_url, "", REDIS_URL=server.url) as second:
        STATES[name].begin(server)
        assert alice.post("/logout").status_code == 200
        assert status_of(second, alice.access_token) == 401
        STATES[name].end(server)
        while not second.extensions["cache"].ping():
            assert status_of(second, alice.access_token) == 401
            time.sleep(0.05)
        assert status_of(second, alice.access_token) == 401


def test_a_logout_while_redis_is_full_reaches_every_process(
    app: Flask, server: RedisServer, people: People, database_url: str
) -> None:
    """K7, R6: a full Redis refuses to store, but still deletes."""
    alice = people.sign_up()
    with stores.application(database_url, "", REDIS_URL=server.url) as second:
        STATES["full"].begin(server)
        assert alice.post("/logout").status_code == 200
        wait_until(lambda: status_of(second, alice.access_token) == 401, seconds=5)


def test_a_logout_survives_redis_coming_back_with_old_data(
    app: Flask, server: RedisServer, people: People, database_url: str
) -> None:
    """R7: Redis loads a snapshot from before the logout. A process that starts afterwards refuses the token too."""
    alice = people.sign_up()
    server.client.save()
    server.kill()
    assert alice.post("/logout").status_code == 200
    server.start()
    assert server.client.dbsize() > 0
    assert status_of(app, alice.access_token) == 401
    wait_until_trusted(app)
    with stores.application(database_url, "", REDIS_URL=server.url) as fresh:
        assert [status_of(each, alice.access_token) for each in (app, fresh)] == [401, 401]
        server.client.flushall()
        assert [status_of(each, alice.access_token) for each in (app, fresh)] == [401, 401]


def test_fifty_users_read_themselves_while_answers_come_late(
    server: RedisServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K2: a late answer is never used for another request."""
    monkeypatch.setattr(redis_cache, "_PROBE_INTERVAL", 0.02)
    monkeypatch.setattr(redis_cache, "_SETTLING", 0.02)
    with (
        through_proxy(server.url) as (proxy, url),
        stores.application(database_url, "", REDIS_URL=url, REDIS_TIMEOUT=0.04) as app,
    ):
        users = [People(FlaskClient(app)).sign_up() for _ in range(50)]
        proxy.delay = lambda: random.choice([0] * 30 + [0.06])

        def read(number: int) -> tuple[bool, bool]:
            data = users[number % 50].get("/users/").get_json()["data"]
            return data["id"] == users[number % 50].id, "cache" in data

        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(read, range(600)))
        forget_failures(app)
    assert all(is_own for is_own, _ in answers)
    assert {is_cached for _, is_cached in answers} == {True, False}
