"""K4: what the cache holds after a transaction that is not a plain success."""

import copy
import io
from collections.abc import Callable

import pytest
from flask import Flask
from sqlalchemy import delete, insert, text, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError, OperationalError

from apps.database.transaction import reading, transactional
from apps.extensions import cache, db
from apps.models import CacheEpoch, Session, User
from apps.services.audit import record
from apps.services.cache_mark import cache_changed, cache_deleted, cache_new
from apps.services.identity_cache import user_key
from apps.utils import clock
from tests.support.every_route import session_id
from tests.support.people import People, Person

on_one = pytest.mark.stores("sqlite")


def read(person: Person) -> tuple[int, dict[str, object]]:
    answer = person.get("/users/")
    return answer.status_code, answer.get_json()["data"]


def name_of(person: Person) -> object:
    return read(person)[1]["username"]


def user(person: Person) -> User:
    return db.session.get_one(User, person.id)


def copy_of(row: User, username: str) -> User:
    columns = {column.name: getattr(row, column.name) for column in User.__table__.columns}
    return User(**columns | {"id": None, "username": username, "username_key": username, "version": 1})


# Rollbacks


@on_one
def test_a_savepoint_that_is_rolled_back_is_not_published(app: Flask, people: People) -> None:
    alice, bob = people.sign_up(), people.sign_up()

    @transactional
    def act() -> None:
        user(bob).username = "robert-bruce"
        savepoint = db.session.begin_nested()
        db.session.delete(user(alice))
        db.session.add(carol := copy_of(user(bob), "carol"))
        db.session.flush()
        cache_new(carol)
        db.session.add(copy_of(user(bob), "carol"))
        with pytest.raises(IntegrityError):
            db.session.flush()
        savepoint.rollback()
        with db.session.begin_nested():
            user(bob).age = 30

    with app.app_context():
        act()
        assert cache.get_many([user_key(bob.id + 1)]) == [None]
    assert read(alice) == (200, read(alice)[1] | {"username": alice.username, "cache": True})
    assert read(bob)[1] | {"username": "robert-bruce", "age": 30, "cache": True} == read(bob)[1]


@on_one
def test_a_rollback_within_a_service_forgets_the_marks(app: Flask, people: People) -> None:
    alice = people.sign_up()

    @transactional
    def act() -> None:
        db.session.delete(user(alice))
        db.session.flush()
        db.session.rollback()

    with app.app_context():
        act()
    assert read(alice)[0] == 200


@on_one
def test_a_savepoint_forgets_no_statement_before_it(app: Flask, people: People) -> None:
    alice = people.sign_up()

    @transactional
    def act() -> None:
        db.session.execute(update(User).values(age=30, version=User.version + 1))
        db.session.begin_nested().rollback()

    with app.app_context(), pytest.raises(RuntimeError, match="without cache_changed"):
        act()
    assert read(alice)[1]["age"] == 18


@on_one
def test_a_commit_within_a_service_is_refused(app: Flask, people: People) -> None:
    """A later error would lose the marks of what it committed."""
    alice = people.sign_up()

    @transactional
    def act() -> None:
        user(alice).username = "robert-bruce"
        db.session.commit()

    with app.app_context(), pytest.raises(RuntimeError, match="commit within"):
        act()
    assert name_of(alice) == alice.username


@on_one
def test_a_change_in_a_read_only_service_is_neither_stored_nor_published(app: Flask, people: People) -> None:
    alice, bob = people.sign_up(), people.sign_up()

    @reading
    def peek() -> None:
        user(alice).username = "nobody-at-all"
        db.session.flush()
        db.session.execute(update(Session).values(version=Session.version + 1))

    with app.app_context():
        peek()
        reading(lambda: cache_deleted(User(id=alice.id)))()
        transactional(lambda: setattr(user(bob), "age", 30))()
    assert name_of(alice) == alice.username


@on_one
def test_a_mark_outside_of_a_transaction_is_refused(app: Flask, people: People) -> None:
    people.sign_up()
    with app.app_context(), pytest.raises(RuntimeError, match="outside of a transaction"):
        cache_changed(User(id=1))


def test_each_try_has_marks_of_its_own(app: Flask, people: People) -> None:
    alice, bob = people.sign_up(), people.sign_up()
    tries: list[int] = []

    @transactional
    def act() -> None:
        tries.append(1)
        changed = alice if len(tries) == 1 else bob
        user(changed).username = "robert-bruce"
        db.session.flush()
        if len(tries) == 1:
            failure = Exception(1213)
            failure.sqlstate = "40001"
            raise OperationalError("UPDATE", {}, failure)

    with app.app_context():
        act()
    assert (name_of(alice), name_of(bob), len(tries)) == (alice.username, "robert-bruce", 2)


@on_one
def test_a_retry_of_the_commit_publishes_only_the_last_try(
    app: Flask, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Galera and PostgreSQL may refuse a transaction at its commit."""
    alice, bob = people.sign_up(), people.sign_up()
    tries = iter((alice, bob))

    def refuse(_session: object) -> None:
        monkeypatch.undo()
        raise OperationalError("COMMIT", {}, Exception(1213))

    @transactional
    def act() -> None:
        user(next(tries)).username = "robert-bruce"

    with app.app_context():
        monkeypatch.setattr(type(db.session()), "commit", refuse)
        act()
    assert (name_of(alice), name_of(bob)) == (alice.username, "robert-bruce")


@on_one
def test_a_savepoint_logs_no_audit_event_before_the_commit(app: Flask, people: People, output: io.StringIO) -> None:
    """L3: the log has the events that are stored, no others."""
    people.sign_up()

    @transactional
    def act(*, is_bad: bool) -> None:
        with db.session.begin_nested():
            record("thing.deed", None)
        if is_bad:
            raise LookupError

    with app.app_context():
        with pytest.raises(LookupError):
            act(is_bad=True)
        assert "thing.deed" not in output.getvalue()
        act(is_bad=False)
    assert output.getvalue().count("thing.deed") == 1


# New rows


def test_a_new_row_that_is_changed_is_published_by_cache_new_only(app: Flask, people: People) -> None:
    alice = people.sign_up()

    @transactional
    def copy_alice() -> int:
        db.session.add(bob := copy_of(user(alice), "bob"))
        db.session.flush()
        bob.age = 30
        return bob.id if db.session.flush() is None else 0

    with app.app_context():
        assert cache.get_many([user_key(copy_alice())]) == [None]
    assert read(people.sign_up())[1]["cache"] is True


@pytest.mark.stores("postgresql")
def test_a_sign_up_without_redis_leaves_the_epoch_alone(
    app: Flask, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process has a new user in its cache."""
    with app.app_context():
        before = db.session.query(CacheEpoch.number).scalar()
    monkeypatch.setattr(app.extensions["cache"], "put", lambda *_: False)
    people.sign_up()
    with app.app_context():
        assert db.session.query(CacheEpoch.number).scalar() == before


@pytest.mark.stores("postgresql")
def test_a_changed_row_that_is_then_passed_to_cache_new_still_counts_as_changed(
    app: Flask, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K5: as the user of a login that replaces an old hash."""
    alice = people.sign_up()

    @transactional
    def act() -> None:
        row = user(alice)
        row.age = 30
        db.session.flush()
        cache_new(row)

    with app.app_context():
        before = db.session.query(CacheEpoch.number).scalar()
        db.session.rollback()
        monkeypatch.setattr(app.extensions["cache"], "put", lambda *_: False)
        act()
        assert db.session.query(CacheEpoch.number).scalar() == before + 1


# Values


def test_publishing_needs_no_query_after_the_commit(app: Flask, people: People) -> None:
    alice = people.sign_up()

    @transactional
    def act() -> None:
        user(alice).age = User.age + 1  # the flush expires it
        db.session.flush()
        db.session.expire_all()

    with app.app_context():
        act()
        assert not db.session().in_transaction()
    assert read(alice)[1] | {"age": 19, "cache": True} == read(alice)[1]


# Commits of which the answer is lost


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_commit_without_an_answer_invalidates(
    app: Flask, people: People, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    """R6: a client that tries again is told that the session has ended, and then it has."""
    alice, bob, carol = (people.sign_up() for _ in range(3))
    assert [read(person)[0] for person in (alice, bob, carol)] == [200, 200, 200]

    @transactional
    def act() -> None:
        db.session.get_one(Session, session_id(alice)).revoke_time = clock.now()
        user(bob).block_time = clock.now()
        db.session.delete(user(carol))

    def commit(session: object) -> None:
        monkeypatch.undo()
        if is_committed:
            session.commit()
        raise OperationalError("COMMIT", {}, Exception("server closed the connection"))

    with app.app_context():
        monkeypatch.setattr(type(db.session()), "commit", commit)
        with pytest.raises(OperationalError):
            act()
    assert [read(person)[0] for person in (alice, bob, carol)] == [401 if is_committed else 200] * 3


class Killed(BaseException):
    """Stands for the end of the process."""


@on_one
@pytest.mark.parametrize("act", ["logout", "block", "end_sessions"])
def test_a_request_that_is_repeated_after_a_crash_is_seen_everywhere(
    app: Flask, people: People, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """R6: the process died between its commit and the write to the cache."""
    alice, admin = people.sign_up(), people.admin()

    def send() -> int:
        if act == "logout":
            return alice.post("/logout").status_code
        path = {"block": "block", "end_sessions": "sessions"}[act]
        method = "POST" if act == "block" else "DELETE"
        return admin.request(method, f"/admin/users/{alice.id}/{path}").status_code

    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(app.extensions["cache"], "put", die)
    with pytest.raises(Killed):
        send()
    monkeypatch.undo()
    assert send() == 200
    assert alice.get("/users/").status_code == 401


# Statements


def upsert(person: Person) -> object:
    row = {column.name: getattr(user(person), column.name) for column in User.__table__.columns}
    new = {"age": 30, "version": row["version"] + 1}
    dialect = db.engine.dialect.name
    if dialect == "mysql":
        return mysql.insert(User).values(**row).on_duplicate_key_update(**new)
    insert = (sqlite if dialect == "sqlite" else postgresql).insert
    return insert(User).values(**row).on_conflict_do_update(index_elements=["id"], set_=new)


STATEMENTS: dict[str, Callable[[Person], object]] = {
    "update": lambda person: update(User).where(User.id == person.id).values(age=30),
    "update of the table": lambda person: update(User.__table__).where(User.id == person.id).values(age=30),
    "update of many": lambda person: update(User),
    "delete": lambda person: delete(Session).where(Session.user_id == person.id),
    "upsert": upsert,
    "text": lambda person: text(f"UPDATE users SET age = 30 WHERE id = {person.id}"),
}


@pytest.mark.parametrize("kind", STATEMENTS)
def test_no_kind_of_statement_passes_without_a_mark(app: Flask, people: People, kind: str) -> None:
    alice = people.sign_up()

    @transactional
    def act() -> None:
        parameters = [{"id": alice.id, "version": 2, "age": 30}] if kind == "update of many" else None
        db.session.execute(STATEMENTS[kind](alice), parameters)

    with app.app_context(), pytest.raises(RuntimeError, match="without cache_changed"):
        act()
    assert read(alice)[1]["age"] == 18


@on_one
def test_a_flushed_row_of_the_table_is_no_mark_for_a_statement(app: Flask, people: People) -> None:
    alice, bob = people.sign_up(), people.sign_up()

    @transactional
    def act() -> None:
        user(alice).age = 30
        db.session.execute(update(User).where(User.id == bob.id).values(age=30, version=User.version + 1))

    with app.app_context(), pytest.raises(RuntimeError, match="without cache_changed"):
        act()


def test_a_statement_that_changes_no_row_needs_no_mark(app: Flask, people: People) -> None:
    alice = people.sign_up()

    @transactional
    def act() -> None:
        changed = update(Session).where(Session.user_id == alice.id + 1).values(version=Session.version + 1)
        db.session.execute(changed)

    with app.app_context():
        act()
    assert read(alice)[0] == 200


@on_one
def test_a_plain_insert_needs_no_mark(app: Flask, people: People) -> None:
    alice = people.sign_up()

    @transactional
    def act() -> None:
        row = {column.name: getattr(user(alice), column.name) for column in User.__table__.columns}
        db.session.execute(insert(User).values(**copy.copy(row) | {"id": alice.id + 1, "username_key": "bob"}))

    with app.app_context():
        act()
    assert read(alice)[0] == 200


@on_one
def test_rows_may_be_marked_before_their_statement(app: Flask, people: People) -> None:
    alice = people.sign_up()

    @transactional
    def act() -> None:
        cache_deleted(db.session.get_one(Session, session_id(alice)))
        db.session.execute(delete(Session).where(Session.id == session_id(alice)))

    with app.app_context():
        act()
    assert read(alice)[0] == 401
