"""The cache as clients see it: faster responses, never wrong ones."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import jwt
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from apps.cache import store as caching
from apps.cache.store import TOMBSTONE_VERSION
from apps.config import settings
from apps.extensions import db
from apps.services.identity_cache import session_key, user_key
from tests.support import stores
from tests.support.cache import look, put
from tests.support.people import People, Person, bearer, sign_up_body
from tests.support.proxy import Proxy, through_proxy

with_redis = pytest.mark.stores("postgresql", "postgresql18", "mariadb")


def mobile(number: int) -> str:
    return str(13_200_000_000 + number)


def keys(app: Flask, person: Person) -> tuple[str, str]:
    """Return the cache keys of a person and of the session of the person's token."""
    with app.app_context():
        claims = jwt.decode(person.access_token, options={"verify_signature": False})
        return user_key(person.id), session_key(person.id, claims["sid"])


def entry(app: Flask, key: str) -> tuple[int, str]:
    found = look(app.extensions["cache"], key)[0]
    assert found
    return found


def plant(app: Flask, key: str, version: int, value: str) -> None:
    app.extensions["cache"].forget(key)
    put(app.extensions["cache"], key, version, value)


def forget(app: Flask, person: Person) -> None:
    for key in keys(app, person):
        app.extensions["cache"].forget(key)


@contextmanager
def statements(app: Flask) -> Iterator[list[str]]:
    """Collect the SQL statements of the block."""
    asked: list[str] = []
    with app.app_context():
        engine = db.engine

    def note(*arguments: object) -> None:
        asked.append(str(arguments[2]))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", note)


@contextmanager
def application_through_proxy(app: Flask, database_url: str) -> Iterator[tuple[Proxy, Flask]]:
    """Yield a second application on the same stores that reaches Redis through a proxy, with a long timeout."""
    with (
        through_proxy(settings(app).REDIS_URL) as (proxy, url),
        stores.application(database_url, "", REDIS_URL=url, REDIS_TIMEOUT=5) as second,
    ):
        yield proxy, second


# Wrong entries under Alice's keys.
Planted = Callable[[Flask, Person, Person], tuple[str, int, str]]
PLANTED: dict[str, Planted] = {
    "another user": lambda app, alice, bob: (keys(app, alice)[0], *entry(app, keys(app, bob)[0])),
    "another session": lambda app, alice, bob: (keys(app, alice)[1], *entry(app, keys(app, bob)[1])),
    "the tombstone of another": lambda app, alice, bob: (keys(app, alice)[0], TOMBSTONE_VERSION, keys(app, bob)[0]),
    "another version": lambda app, alice, bob: (keys(app, alice)[0], 99, entry(app, keys(app, alice)[0])[1]),
    "garbage": lambda app, alice, bob: (keys(app, alice)[0], 99, "\x80\x04\ufffd."),
    "no object": lambda app, alice, bob: (keys(app, alice)[0], 99, "[]"),
    "other types": lambda app, alice, bob: (keys(app, alice)[0], 99, f'{{"id": "{alice.id}"}}'),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_each_reads_themselves_whatever_the_cache_holds(app: Flask, people: People, planted: Planted) -> None:
    """K1: a wrong entry is dropped, and a later miss fills the cache again."""
    alice, bob = people.sign_up("alice-liddell"), people.sign_up()
    plant(app, *planted(app, alice, bob))
    first, second, third = (alice.get("/users/").get_json()["data"] for _ in range(3))
    assert first == {"username": "alice-liddell", "id": alice.id, "age": 18, "mobile": "13200001111"}
    assert second in (first, first | {"cache": True})
    assert third == first | {"cache": True}


def test_the_live_session_of_another_does_not_stand_in_for_one_that_is_over(app: Flask, people: People) -> None:
    """K1, K7."""
    alice, bob = people.sign_up(), people.sign_up()
    alice.post("/logout")
    plant(app, keys(app, alice)[1], *entry(app, keys(app, bob)[1]))
    assert alice.get("/users/").status_code == 401


def test_a_logout_is_not_in_the_cache_alone(app: Flask, people: People) -> None:
    """R7."""
    alice = people.sign_up()
    alice.post("/logout")
    forget(app, alice)
    assert alice.get("/users/").status_code == 401
    assert alice.refresh().status_code == 401


@with_redis
def test_every_key_in_redis_has_an_end(app: Flask, people: People) -> None:
    """K3: with jitter, so that entries stored together do not expire together."""
    alice, bob = people.sign_up(), people.sign_up()
    people.log_in(alice.username)
    for response in (alice.refresh(), alice.put(f"/users/{alice.id}", json=sign_up_body()), alice.post("/logout")):
        assert response.status_code == 200
    assert bob.delete(f"/users/{bob.id}").status_code == 200
    with redis.Redis.from_url(settings(app).REDIS_URL, decode_responses=True) as server:
        lives = {key: server.pttl(key) for key in server.scan_iter()}
    cached = [life for key, life in lives.items() if "{u:" in key]
    assert len(cached) == 5 < len(lives)  # two users, three sessions, and the counters of the rate limits
    assert all(life > 0 for life in lives.values())
    assert len(set(cached)) > 1
    assert max(cached) <= 60_000


@with_redis
def test_a_token_costs_one_round_trip_to_redis_and_no_query(app: Flask, people: People, database_url: str) -> None:
    """One round trip reads the session and the user together."""
    alice = people.sign_up()
    with application_through_proxy(app, database_url) as (proxy, second):
        client = second.test_client()
        ask = {"path": "/api/v1/users/", "headers": bearer(alice.access_token)}
        client.get(**ask)  # connects
        before = proxy.commands
        with statements(second) as asked:
            assert client.get(**ask).get_json()["data"]["cache"] is True
        assert proxy.commands - before == 1
        assert [statement for statement in asked if "FROM doubts" not in statement] == []


def test_a_miss_costs_one_query(app: Flask, people: People) -> None:
    """Reads of the table `doubts` (the cache epoch) do not count."""
    alice = people.sign_up()
    alice.get("/users/")
    forget(app, alice)
    with statements(app) as asked:
        assert "cache" not in alice.get("/users/").get_json()["data"]
    asked = [statement for statement in asked if "FROM doubts" not in statement]
    assert len([statement for statement in asked if "SELECT" in statement]) == 1


def test_a_hundred_requests_on_a_cold_key_are_one_query(
    app: Flask, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K6."""
    monkeypatch.setattr(caching, "_FILL_WAIT", 30)  # the machine may be slow
    alice = people.sign_up()
    forget(app, alice)
    start = threading.Barrier(100)

    def read(_: int) -> int:
        start.wait()
        return FlaskClient(app).get("/api/v1/users/", headers=bearer(alice.access_token)).status_code

    with statements(app) as asked, ThreadPoolExecutor(100) as threads:
        assert set(threads.map(read, range(100))) == {200}
    assert 1 <= len([statement for statement in asked if "FROM users" in statement]) <= 2


@pytest.fixture
def restless() -> Iterator[None]:
    """Switch threads as often as possible, so that more interleavings occur."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("restless")
def test_after_an_update_nobody_reads_what_was_before(app: Flask, people: People) -> None:
    """K4: a PUT races with readers that miss and fill the cache."""
    alice = people.sign_up()
    devices = [people.log_in(alice.username) for _ in range(8)]

    def read(device: Person) -> str:
        response = FlaskClient(app).get("/api/v1/users/", headers=bearer(device.access_token))
        return response.get_json()["data"]["mobile"]

    with ThreadPoolExecutor(4) as threads:
        for number in range(50):
            for device in devices:
                forget(app, device)
            racing = [threads.submit(read, device) for device in devices]
            body = sign_up_body(alice.username, mobile=mobile(number))
            assert alice.put(f"/users/{alice.id}", json=body).status_code == 200
            assert read(alice) == mobile(number)
            assert {reader.result() for reader in racing} <= {mobile(number), mobile(number - 1), "13200001111"}
            assert read(alice) == mobile(number)


@with_redis
@pytest.mark.parametrize("write", ["patch", "delete", "logout"])
def test_a_slow_reader_never_puts_the_old_row_back(app: Flask, people: People, database_url: str, write: str) -> None:
    """K4, K7: the reader's cache write is delayed until the change is complete."""
    alice = people.sign_up()
    writes: dict[str, Callable[[], object]] = {
        "patch": lambda: alice.patch(f"/users/{alice.id}", json={"mobile": mobile(7)}),
        "delete": lambda: alice.delete(f"/users/{alice.id}"),
        "logout": lambda: alice.post("/logout"),
    }
    with application_through_proxy(app, database_url) as (proxy, slow), ThreadPoolExecutor(1) as thread:
        forget(app, alice)
        filling = proxy.hold(b"mobile_ciphertext")
        late = thread.submit(slow.test_client().get, "/api/v1/users/", headers=bearer(alice.access_token))
        assert filling.reached.wait(10)
        writes[write]()
        filling.release()
        assert late.result().get_json()["data"]["mobile"] == "13200001111"
        after = alice.get("/users/")
        assert (after.status_code, after.get_json()["data"].get("mobile")) == (
            (200, mobile(7)) if write == "patch" else (401, None)
        )
