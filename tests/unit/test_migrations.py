"""The migrations: up, down and up again, on every database, with the rows of a running service."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from click.testing import Result
from flask import Flask

from apps import create_app
from apps.about import ROOT
from apps.commands import register_commands
from apps.extensions import db
from apps.models import User
from tests.support import servers, stores

FIRST = "0001"
TIME = "2026-01-31 12:30:59.123456"


@pytest.fixture
def url(store: str, tmp_path: Path) -> Iterator[str]:
    """An empty database of this test."""
    pair = stores.PAIRS[store]
    stores.skip_unless_available(pair)
    server = stores.server_url(pair.database)
    name = f"gatehouse_migrations_{stores.worker_number()}"
    yield servers.create_database(server, name) if server else f"sqlite:///{tmp_path / 'test.sqlite3'}"
    if server:
        servers.drop_database(server, name)


@pytest.fixture
def app(url: str) -> Iterator[Flask]:
    app = create_app("testing", DATABASE_URL=url, STATEMENT_TIMEOUT=1)
    register_commands(app)
    yield app
    with app.app_context():
        db.engine.dispose()


def migrate(app: Flask, *command: str) -> Result:
    return app.test_cli_runner().invoke(args=["db", *command])


def schema(app: Flask) -> dict[str, Any]:
    """Return the whole schema, independent of order."""
    with app.app_context():
        found = sa.inspect(db.engine)
        return {
            table: [
                sorted(str(thing) for thing in things)
                for things in (
                    found.get_columns(table),
                    [found.get_pk_constraint(table)],
                    found.get_foreign_keys(table),
                    found.get_unique_constraints(table),
                    found.get_check_constraints(table),
                    found.get_indexes(table),
                )
            ]
            for table in found.get_table_names()
        }


def rows(app: Flask, table: str, *columns: str) -> list[tuple[Any, ...]]:
    with app.app_context():
        found = db.session.execute(sa.text(f"SELECT {', '.join(columns)} FROM {table} ORDER BY id")).all()
        db.session.rollback()
        return [tuple(bytes(value) if isinstance(value, memoryview) else value for value in row) for row in found]


USERS = ("id", "username", "username_key", "password_hash", "mobile_ciphertext", "age", "birth", "role", "version")
SESSIONS = ("id", "user_id", "address", "user_agent", "create_time", "expire_time", "revoke_reason", "version")


def seed(app: Flask) -> None:
    """Insert rows as the first release did."""
    user = {
        "username": "アリス-alice",
        "hash": "$argon2id$",
        "blob": bytes(range(60)),
        "index": bytes(32),
        "time": TIME,
    }
    with app.app_context():
        for number in (1, 2, 3):
            db.session.execute(
                sa.text(
                    "INSERT INTO users (id, username, username_key, password_hash, mobile_ciphertext, mobile_index,"
                    " age, birth, role, version, create_time, update_time)"
                    " VALUES (:id, :username, :key, :hash, :blob, :index, 18, :time, 'user', 7, :time, :time)"
                ),
                user | {"id": number, "key": f"alice-{number}"},
            )
            db.session.execute(
                sa.text(
                    "INSERT INTO sessions (id, user_id, address, user_agent, refresh_generation, create_time,"
                    " last_used_time, expire_time, revoke_reason, version)"
                    " VALUES (:id, :user, '::1', 'curl', 0, :time, :time, :time, 'logout', 3)"
                ),
                {"id": f"{number:032x}", "user": number, "time": TIME},
            )
        db.session.commit()


def test_the_migrations_make_what_the_models_say(app: Flask) -> None:
    """N6."""
    assert migrate(app, "upgrade").exit_code == 0
    assert migrate(app, "check").exit_code == 0
    with app.app_context():
        next(index for index in User.__table__.indexes if index.name == "ix_users_mobile_index").drop(db.engine)
    assert migrate(app, "check").exit_code != 0


def test_up_down_and_up_again_is_the_same_schema(app: Flask) -> None:
    """N6."""
    migrate(app, "upgrade")
    before = schema(app)
    assert migrate(app, "downgrade", "base").exit_code == 0
    assert set(schema(app)) <= {"alembic_version"}
    assert migrate(app, "upgrade").exit_code == 0
    assert schema(app) == before
    migrate(app, "downgrade", FIRST)
    migrate(app, "upgrade")
    assert schema(app) == before


def test_rows_survive_every_step(app: Flask) -> None:
    """N6: up from the first release, down to it, and up again."""
    migrate(app, "upgrade", FIRST)
    seed(app)
    users, sessions = rows(app, "users", *USERS), rows(app, "sessions", *SESSIONS)
    assert len(users) == len(sessions) == 3
    for command in (["upgrade"], ["downgrade", FIRST], ["upgrade"]):
        done = migrate(app, *command)
        assert done.exit_code == 0, done.output
        assert rows(app, "users", *USERS) == users
        assert rows(app, "sessions", *SESSIONS) == sessions


TRIGGERS = {
    "sqlite": "SELECT lower(name) FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
    "mysql": "SELECT lower(trigger_name) FROM information_schema.triggers WHERE trigger_schema = database()",
}


def test_the_audit_is_append_only_at_every_step(app: Flask) -> None:
    """L3, N6: a downgrade from the release that purges old events restores the previous triggers."""

    def triggers() -> set[str]:
        with app.app_context():
            found = set(db.session.scalars(sa.text(TRIGGERS[db.engine.dialect.name])))
            db.session.rollback()
        return found

    def delete_an_event() -> None:
        columns = "id, time, event, outcome, detail, hash"
        with app.app_context():
            db.session.execute(
                sa.text(f"INSERT INTO audit_events ({columns}) VALUES (1, :time, 'login', 'success', '{{}}', :seal)"),
                {"time": TIME, "seal": bytes(32)},
            )
            try:
                db.session.execute(sa.text("DELETE FROM audit_events"))
            finally:
                db.session.rollback()

    migrate(app, "upgrade", "0005")
    before = triggers()
    for command in (["upgrade"], ["downgrade", "0005"], ["upgrade"]):
        done = migrate(app, *command)
        assert done.exit_code == 0, done.output
        assert (triggers() == before) == (command[0] == "downgrade")
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            delete_an_event()


def test_clients_without_scopes_keep_what_they_may_do(app: Flask) -> None:
    """R10, N6: clients from before the migration, and those that the previous release adds after it."""

    def add(client_id: str) -> None:
        columns = "id, name, secret_digest, create_time"
        with app.app_context():
            values = {"id": client_id, "name": "orders", "digest": bytes(32), "time": TIME}
            db.session.execute(sa.text(f"INSERT INTO clients ({columns}) VALUES (:id, :name, :digest, :time)"), values)
            db.session.commit()

    migrate(app, "upgrade", "0007")
    add("1")
    assert migrate(app, "upgrade").exit_code == 0
    add("2")
    may_all = ("service", "introspect revoke")
    assert rows(app, "clients", "id", "kind", "scopes") == [("1", *may_all), ("2", *may_all)]
    migrate(app, "downgrade", "0007")
    assert rows(app, "clients", "id", "name") == [("1", "orders"), ("2", "orders")]


@pytest.mark.stores("sqlite")
def test_ids_are_never_given_out_twice_after_a_migration_either(app: Flask) -> None:
    """T8: SQLite migrates a table by copying it into a new one, which must keep AUTOINCREMENT."""
    for command in (["upgrade"], ["downgrade", FIRST], ["upgrade"]):
        migrate(app, *command)
        with app.app_context():
            made = db.session.scalar(sa.text("SELECT sql FROM sqlite_master WHERE name = 'users'"))
            db.session.rollback()
        assert "AUTOINCREMENT" in made


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Hold a lock on the users table, like a request."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT * FROM users")
        yield


@pytest.mark.stores("postgresql", "mariadb")
def test_a_migration_that_cannot_have_its_lock_gives_up(app: Flask, url: str) -> None:
    """N6: otherwise every later request would wait behind it."""
    migrate(app, "upgrade")
    with locked(url):
        assert migrate(app, "downgrade", FIRST).exit_code != 0
    assert migrate(app, "downgrade", FIRST).exit_code == 0


@pytest.mark.stores("sqlite")
def test_there_is_one_head_and_no_offline_mode(app: Flask) -> None:
    assert len(ScriptDirectory(str(ROOT / "migrations")).get_heads()) == 1
    refused = migrate(app, "upgrade", "--sql")
    assert refused.exit_code != 0
    assert "need a database" in refused.output + str(refused.exception)
