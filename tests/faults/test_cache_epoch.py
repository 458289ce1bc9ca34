"""The cache epoch: a process that alone loses Redis makes the others invalidate their cache, through the database."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update

from apps.config import settings
from apps.extensions import db
from apps.models import CacheEpoch
from apps.utils import clock
from tests.faults import wait_until
from tests.support import stores
from tests.support.people import People, Person
from tests.support.proxy import Proxy, through_proxy

pytestmark = pytest.mark.stores("postgresql", "mariadb")

NEW = "13200002222"
WAYS: dict[str, Callable[[Proxy], object]] = {
    "refuses": Proxy.refuse,
    "hangs": lambda proxy: setattr(proxy, "is_silent", True),
}
in_each_way = pytest.mark.parametrize("cut_off", WAYS.values(), ids=WAYS)


@pytest.fixture
def proxy(app: Flask) -> Iterator[Proxy]:
    """The proxy between Redis and the process that will be cut off."""
    with through_proxy(settings(app).REDIS_URL) as (proxy, url):
        proxy.url = url
        yield proxy


@pytest.fixture
def lonely(proxy: Proxy, database_url: str) -> Iterator[Flask]:
    """The process that will be cut off."""
    with stores.application(database_url, proxy.url) as lonely:
        yield lonely
        lonely.extensions["cache"]._is_open = False  # stops the probes
        proxy.is_silent = False
        proxy.listen()


def at(app: Flask, person: Person) -> Person:
    return Person(FlaskClient(app), person.id, person.username, person.access_token, person.refresh_token)


@in_each_way
def test_a_logout_that_redis_missed_is_seen_elsewhere(
    app: Flask, lonely: Flask, proxy: Proxy, people: People, cut_off: Callable[[Proxy], object]
) -> None:
    """R6, K5, K7: at once, not only when the entry expires."""
    alice = people.sign_up()
    assert alice.get("/users/").get_json()["data"]["cache"] is True
    cut_off(proxy)
    assert at(lonely, alice).post("/logout").status_code == 200
    assert alice.get("/users/").status_code == 401
    assert alice.refresh().status_code == 401


def test_an_update_and_a_deletion_that_redis_missed_are_seen_too(
    app: Flask, lonely: Flask, proxy: Proxy, people: People
) -> None:
    """K4, K5."""
    alice, bob = people.sign_up(), people.sign_up()
    assert alice.get("/users/").get_json()["data"]["cache"] is bob.get("/users/").get_json()["data"]["cache"] is True
    proxy.refuse()
    assert at(lonely, alice).patch(f"/users/{alice.id}", json={"mobile": NEW}).status_code == 200
    assert at(lonely, bob).delete(f"/users/{bob.id}").status_code == 200
    assert alice.get("/users/").get_json()["data"]["mobile"] == NEW
    assert bob.get("/users/").status_code == 401


def test_the_cache_is_believed_again_when_the_doubt_is_over(
    app: Flask, lonely: Flask, proxy: Proxy, people: People
) -> None:
    """V1: the service is slower for a second or two."""
    alice = people.sign_up()
    alice.get("/users/")
    proxy.refuse()
    at(lonely, alice).patch(f"/users/{alice.id}", json={"mobile": NEW})
    assert "cache" not in alice.get("/users/").get_json()["data"]
    wait_until(lambda: "cache" in alice.get("/users/").get_json()["data"], 5)
    assert alice.get("/users/").get_json()["data"]["mobile"] == NEW


@pytest.mark.parametrize(("seconds", "is_cached"), [(5, False), (61, True)])
def test_a_process_that_starts_heeds_a_doubt_whose_entries_may_still_live(
    app: Flask, database_url: str, people: People, seconds: int, is_cached: bool
) -> None:
    """K5: `CACHE_TTL` is 60 seconds."""
    alice = people.sign_up()
    with app.app_context():
        db.session.execute(update(CacheEpoch).values(number=7, raise_time=clock.now() - timedelta(seconds=seconds)))
        db.session.commit()
    with stores.application(database_url, settings(app).REDIS_URL) as young:
        assert ("cache" in at(young, alice).get("/users/").get_json()["data"]) == is_cached


def test_a_database_without_doubts_keeps_nobody_from_reading(app: Flask, people: People) -> None:
    """V2: an epoch that cannot be read is read again later."""
    alice = people.sign_up()
    with app.app_context():
        db.session.execute(CacheEpoch.__table__.delete())
        db.session.commit()
    assert alice.get("/users/").get_json()["data"]["cache"] is True
    with app.app_context():
        db.session.add(CacheEpoch(id=1, number=0, raise_time=clock.now() - timedelta(days=1)))
        db.session.commit()
