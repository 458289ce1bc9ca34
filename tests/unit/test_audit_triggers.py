"""L3: a role with SELECT, INSERT, UPDATE and DELETE can add audit events, but cannot change others undetected.

The triggers do not check the role, so here the owner runs the statements.
"""

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError, DBAPIError, IntegrityError

from apps.extensions import db
from apps.services.audit import BrokenChain, verify
from tests.support.audit import read_audit, write_audit
from tests.support.people import People

each = pytest.mark.stores("sqlite", "postgresql", "mariadb")
EVENTS = 5
SEAL = "(SELECT hash FROM audit_events WHERE id = {})"


@pytest.fixture(autouse=True)
def _chain(people: People) -> None:
    alice = people.sign_up()
    for _ in range(EVENTS - 1):
        people.log_in(alice.username)


def write(*statements: str) -> None:
    try:
        for statement in statements:
            db.session.execute(text(statement))
        db.session.commit()
    finally:
        db.session.rollback()


def cut_off(until: int) -> tuple[str, str]:
    """Return statements that delete the events up to `until` and record it in the head as a purge."""
    return (
        f"UPDATE audit_head SET purged_until_id = {until}, purged_hash = {SEAL.format(until)}",
        f"DELETE FROM audit_events WHERE id <= {until}",
    )


@each
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit_head",
        "UPDATE audit_head SET id = 2",
        "UPDATE audit_head SET last_event_id = last_event_id - 1",
        "UPDATE audit_head SET purged_until_id = purged_until_id - 1",
        "UPDATE audit_head SET last_event_id = last_event_id + 1, purged_until_id = 0",
    ],
)
def test_the_head_stays_and_never_goes_back(app: Flask, statement: str) -> None:
    with app.app_context():
        write(*cut_off(3))
        before = read_audit()
        with pytest.raises(DBAPIError, match="append-only"):
            write(statement)
        assert read_audit() == before


@each
def test_there_is_no_second_head(app: Flask) -> None:
    with app.app_context(), pytest.raises(IntegrityError):
        write("INSERT INTO audit_head (id, last_event_id, hash) SELECT id, 0, hash FROM audit_head")


@each
def test_a_cut_at_the_beginning_needs_an_event_that_tells_of_it(app: Flask) -> None:
    with app.app_context():
        write(*cut_off(3))
        with pytest.raises(BrokenChain, match="events up to 3 were deleted, and no event records a purge"):
            verify()


@each
def test_a_cut_at_the_end_cannot_be_hidden(app: Flask) -> None:
    """For that, both the purged id and the last id in the head would have to decrease."""
    with app.app_context():
        seal = read_audit()[0][2]["hash"].hex()
        literal = f"decode('{seal}', 'hex')" if db.engine.dialect.name == "postgresql" else f"x'{seal}'"
        write("UPDATE audit_head SET purged_until_id = 5", "DELETE FROM audit_events WHERE id > 3")
        with pytest.raises(DBAPIError, match="append-only"):
            write(f"UPDATE audit_head SET purged_until_id = 0, last_event_id = 3, hash = {literal}")
        with pytest.raises(BrokenChain, match="event 6 is missing"):
            verify()


@each
def test_without_a_head_nothing_can_be_deleted_and_the_check_says_so(app: Flask) -> None:
    """Only the owner of the database can delete the head; the command reports it."""
    with app.app_context():
        write_audit(read_audit()[0])
        with pytest.raises(DatabaseError, match="append-only"):
            write("DELETE FROM audit_events WHERE id = 5")
    told = app.test_cli_runner().invoke(args=["audit", "verify"])
    assert (told.exit_code, told.output) == (1, "Error: the audit was tampered with: the audit_head row is missing\n")


@pytest.mark.stores("mariadb")
def test_to_replace_a_row_is_to_delete_it(app: Flask) -> None:
    """On MariaDB. SQLite does not treat REPLACE as a delete, but has no roles: a writer of its file owns it."""
    with app.app_context():
        for table in ("audit_head", "audit_events"):
            with pytest.raises(DBAPIError, match="append-only"):
                write(f"REPLACE INTO {table} SELECT * FROM {table} WHERE id = 1")


@pytest.mark.stores("postgresql", "postgresql18")
def test_a_temporary_table_of_the_heads_name_is_not_believed(app: Flask) -> None:
    """Every role may create one, and PostgreSQL resolves its name first."""
    with app.app_context(), pytest.raises(DBAPIError, match="append-only"):
        write(
            "CREATE TEMPORARY TABLE audit_head ON COMMIT DROP AS SELECT 1 AS id, 9 AS purged_until_id",
            "DELETE FROM audit_events WHERE id = 2",
        )


@pytest.mark.stores("postgresql", "postgresql18")
@pytest.mark.parametrize("tables", ["audit_events", "audit_head", "audit_events, audit_head"])
def test_to_truncate_is_refused_too(app: Flask, tables: str) -> None:
    with app.app_context():
        before = read_audit()
        with pytest.raises(DBAPIError, match="append-only"):
            write(f"TRUNCATE {tables}")
        assert read_audit() == before
