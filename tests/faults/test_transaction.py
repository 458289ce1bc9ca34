"""K4: `@transactional` publishes the changes of a service, without any cache call in the service."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import delete, select, update

from apps.config import settings
from apps.database.transaction import reading, transactional
from apps.extensions import cache, db
from apps.models import Session, User
from apps.services.cache_mark import KEEPS_CACHE, cache_changed
from apps.services.identity_cache import user_key
from apps.utils import clock
from tests.support import live
from tests.support.every_route import session_id
from tests.support.people import People, Person

on_one = pytest.mark.stores("sqlite")


# Throw-away services. None of them calls the cache.


@transactional
def block(user_id: int) -> None:
    db.session.get_one(User, user_id).block_time = clock.now()


@transactional
def rename(user_id: int, username: str) -> None:
    user = db.session.get_one(User, user_id)
    user.username = "for a moment"
    db.session.flush()
    user.username = username


@transactional
def end(session_id: str) -> None:
    db.session.get_one(Session, session_id).revoke_time = clock.now()


@transactional
def remove(user_id: int) -> None:
    db.session.delete(db.session.get_one(User, user_id))


@transactional
def rename_by_statement(user_id: int, username: str, *, is_marked: bool) -> None:
    db.session.execute(update(User).where(User.id == user_id).values(username=username, version=User.version + 1))
    if is_marked:
        cache_changed(db.session.get_one(User, user_id, populate_existing=True))


@pytest.fixture
def elsewhere(app: Flask, tmp_path: Path) -> Iterator[live.Live]:
    """A second process on the same stores."""
    names = ("DATABASE_URL", "REDIS_URL", "GATEHOUSE_JWT_SECRET_KEY", "GATEHOUSE_FIELD_INDEX_KEY")
    environment = {name: getattr(settings(app), name.removeprefix("GATEHOUSE_")) for name in names}
    environment["GATEHOUSE_FIELD_ENCRYPTION_KEYS"] = json.dumps(settings(app).FIELD_ENCRYPTION_KEYS)
    with live.live_server(tmp_path, "run", **environment) as server:
        yield server


def read(server: live.Live, person: Person) -> tuple[int, dict[str, object]]:
    status, answer = server.send("GET", "/api/v1/users/", token=person.access_token)
    return status, answer["data"]


@pytest.mark.timeout(120)
@pytest.mark.stores("postgresql", "mariadb")
def test_a_change_by_a_new_service_is_seen_in_a_second_process_at_once(
    app: Flask, people: People, elsewhere: live.Live
) -> None:
    """R6, K4, K5."""
    alice, bob, carol, dora = (people.sign_up() for _ in range(4))
    for person in (alice, bob, carol, dora):
        assert read(elsewhere, person)[1]["cache"] is True
    with app.app_context():
        block(alice.id)
        rename(bob.id, "robert-bruce")
        end(session_id(carol))
        remove(dora.id)
    renamed = read(elsewhere, bob)[1]
    assert (renamed["username"], renamed["cache"]) == ("robert-bruce", True)
    assert [read(elsewhere, person)[0] for person in (alice, carol, dora)] == [401, 401, 401]


@on_one
def test_a_change_that_is_rolled_back_is_not_published(app: Flask, people: People) -> None:
    alice = people.sign_up("alice-liddell")

    @transactional
    def fail() -> None:
        db.session.get_one(User, alice.id).username = "nobody-at-all"
        db.session.flush()
        raise LookupError

    with app.app_context():
        with pytest.raises(LookupError):
            fail()
        block(people.sign_up().id)  # the next transaction of the thread publishes only its own rows
    assert alice.get("/users/").get_json()["data"]["username"] == "alice-liddell"


@on_one
def test_new_rows_are_not_published_by_themselves(app: Flask, people: People) -> None:
    """An import of many users must not fill the cache."""
    people.sign_up()

    @transactional
    def copy() -> int:
        alice = db.session.scalars(select(User)).one()
        columns = {column.name: getattr(alice, column.name) for column in User.__table__.columns}
        bob = User(**columns | {"id": None, "username": "bob", "username_key": "bob"})
        db.session.add(bob)
        db.session.flush()
        return bob.id

    with app.app_context():
        assert cache.get_many([user_key(copy())]) == [None]


@on_one
def test_a_statement_that_changes_cached_rows_must_mark_them(app: Flask, people: People) -> None:
    alice = people.sign_up()
    with app.app_context():
        with pytest.raises(RuntimeError, match="without cache_changed"):
            rename_by_statement(alice.id, "not-published", is_marked=False)
        assert alice.get("/users/").get_json()["data"]["username"] == alice.username
        rename_by_statement(alice.id, "published", is_marked=True)
    answer = alice.get("/users/").get_json()["data"]
    assert (answer["username"], answer["cache"]) == ("published", True)


@on_one
def test_a_statement_that_leaves_every_entry_right_may_say_so(app: Flask, people: People) -> None:
    """As the purge and the re-encryption do."""
    people.sign_up()

    @transactional
    def purge() -> None:
        db.session.execute(delete(Session).execution_options(**KEEPS_CACHE))

    with app.app_context():
        purge()


@on_one
@pytest.mark.parametrize("outer", [transactional, reading])
@pytest.mark.parametrize("inner", [transactional, reading])
def test_a_transaction_within_another_is_refused(app: Flask, outer: type, inner: type) -> None:
    """The inner one would commit or close the transaction of the outer one."""
    act = outer(inner(lambda: None))
    with app.app_context():
        with pytest.raises(RuntimeError, match="a transaction within a transaction"):
            act()
        assert transactional(lambda: "the next one works")() == "the next one works"
