"""`manage.py audit purge` deletes old events."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from apps.extensions import db
from apps.services import audit
from tests.support.keys import command
from tests.support.people import People


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
def test_old_events_go_and_the_rest_is_a_chain(app: Flask, people: People) -> None:
    """L3: in batches. The audit records the purge. Any other deletion is refused or detected."""
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as time:
        alice = people.sign_up("alice-liddell")
        for _ in range(4):
            people.log_in("alice-liddell")
        time.shift(timedelta(days=100))
        people.log_in("alice-liddell")
        assert command(app, "audit", "purge", "--days=90", "--batch=2") == ["deleted 5 events"]
        assert command(app, "audit", "purge", "--days=90") == ["deleted 0 events"]
        alice = people.log_in("alice-liddell")
    assert command(app, "audit", "verify") == ["5 events, none changed"]  # two logins, and one purge event per batch
    with app.app_context():
        rows = db.session.execute(text("SELECT id FROM audit_events ORDER BY id")).scalars().all()
        assert rows[0] == 6
        with pytest.raises(DatabaseError, match="append-only"):
            db.session.execute(text(f"DELETE FROM audit_events WHERE id = {rows[0]}"))
        db.session.rollback()
        db.session.execute(text("UPDATE audit_head SET purged_until_id = 6"))
        db.session.execute(text("DELETE FROM audit_events WHERE id = 6"))
        db.session.commit()
        with pytest.raises(audit.BrokenChain, match="event 7 was changed"):
            audit.verify()
    assert alice.id
