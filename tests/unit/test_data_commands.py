"""`manage.py backup`, `restore`, `keys reencrypt` and `audit purge`: the data is kept, and what is old goes."""

import shutil
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, text
from sqlalchemy.exc import DatabaseError

from apps import create_app
from apps.config import TestConfig
from apps.extensions import db
from apps.models import SigningKey, User
from apps.services import audit, reencryption
from apps.utils import crypto
from tests.support import stores
from tests.support.keys import command, refusal, rotate
from tests.support.people import People, Person
from tests.support.servers import create_database

each = pytest.mark.stores("sqlite", "postgresql", "mariadb")
OLD, NEW = TestConfig.FIELD_ENCRYPTION_KEYS[0], "another-field-encryption-key-of-the-suite"


def empty_database(app: Flask, store: str, folder: Path) -> str:
    if store == "sqlite":
        return f"sqlite:///{folder / 'restored.sqlite3'}"
    url = stores.server_url(store)
    assert url
    return create_database(url, f"gatehouse_restored_{stores.worker_number()}")


@each
def test_a_backup_under_writes_is_restored_whole(app: Flask, people: People, store: str, tmp_path: Path) -> None:
    """N7: into a new database; people log in, the audit holds, and no id is given twice."""
    alice = people.sign_up("alice-liddell")
    file, stop = tmp_path / "backup", threading.Event()

    def sign_up_many() -> None:
        others = People(FlaskClient(app))
        while not stop.is_set():
            others.sign_up()

    thread = threading.Thread(target=sign_up_many)
    thread.start()
    try:
        (line,) = command(app, "backup", str(file))
    finally:
        stop.set()
        thread.join()
    assert line.startswith(f"wrote {file}, ")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    restored = create_app("testing", DATABASE_URL=empty_database(app, store, tmp_path))
    (line,) = command(restored, "restore", str(file))
    assert line.endswith("audit events, none changed")
    with restored.app_context():
        ids = set(db.session.scalars(select(User.id)))
        assert alice.id in ids
    again = People(FlaskClient(restored))
    assert again.log_in("alice-liddell").get("/users/").get_json()["data"]["mobile"] == "13200001111"
    assert again.sign_up().id > max(ids)
    assert refusal(restored, "restore", str(file)) == "Error: the database is not empty; restore into a new one"
    with restored.app_context():
        db.session.remove()
        db.engine.dispose()


@pytest.mark.stores("sqlite")
def test_a_backup_overwrites_nothing(app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_text("of yesterday")
    assert "File exists" in refusal(app, "backup", str(file))
    assert file.read_text() == "of yesterday"
    assert "no such file" in refusal(app, "restore", str(tmp_path / "none"))


@pytest.mark.stores("postgresql")
def test_a_backup_that_fails_leaves_nothing(app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says what it lacks."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "needs the program pg_dump" in refusal(app, "backup", str(tmp_path / "backup"))
    assert list(tmp_path.iterdir()) == []


def keys_of(app: Flask) -> set[bytes]:
    """Return the ids of the keys that the encrypted fields are of."""
    with app.app_context():
        fields = [*db.session.scalars(select(User.mobile_ciphertext))]
        fields += db.session.scalars(select(SigningKey.private_key_ciphertext))
        return {bytes(field[1:5]) for field in fields}


@each
@pytest.mark.settings(JWT_ALGORITHM="EdDSA", JWT_KEYS_RELOAD=0.1)
def test_every_field_gets_the_new_key_while_people_change_theirs(app: Flask, people: People) -> None:
    """D3: killed midway and started again; nobody's number is lost, nor is a version or a session touched."""
    rotate(app)
    everybody = [people.sign_up(mobile=f"132000{number:05}") for number in range(12)]
    app.config["FIELD_ENCRYPTION_KEYS"] = [NEW, OLD]
    etags = [person.get("/users/").headers["ETag"] for person in everybody]
    with app.app_context():
        run = reencryption.reencrypt(batch=5)
        assert next(run) == 5
        run.close()  # the process dies
    changed: Person = everybody[7]
    assert changed.patch(f"/users/{changed.id}", json={"mobile": "13299999999"}).status_code == 200
    assert command(app, "keys", "reencrypt", "--batch=5")[-1] == "encrypted 7 anew"  # six users, and the signing key
    assert len(keys_of(app)) == 1
    app.config.update(FIELD_ENCRYPTION_KEYS=[NEW], CACHE_PREFIX="a CACHE_TTL later")
    for number, person in enumerate(everybody):
        read = person.get(f"/users/{person.id}")
        expected = "13299999999" if person is changed else f"132000{number:05}"
        assert read.get_json()["data"]["mobile"] == expected
        assert (read.headers["ETag"] == etags[number]) == (person is not changed)
    assert command(app, "keys", "reencrypt")[-1] == "encrypted 0 anew"


@each
def test_a_change_between_the_look_and_the_writing_wins(app: Flask, people: People) -> None:
    """D3: the row is replaced only if it still is what was read."""
    alice = people.sign_up(mobile="13200001111")
    app.config["FIELD_ENCRYPTION_KEYS"] = [NEW, OLD]
    with app.app_context():
        before = db.session.scalar(select(User.mobile_ciphertext))
        row = User.__table__.c
        db.session.execute(
            User.__table__.update().values(mobile_ciphertext=crypto.encrypt("13277777777", f"users.mobile:{alice.id}"))  # type: ignore[attr-defined]
        )
        unchanged = User.__table__.update().where(row.mobile_ciphertext == before)  # type: ignore[attr-defined]
        assert db.session.execute(unchanged.values(age=99)).rowcount == 0  # type: ignore[attr-defined]
        db.session.commit()
        assert sum(reencryption.reencrypt(batch=5)) == 1  # its index, which the change above left alone
        assert db.session.get_one(User, alice.id).mobile == "13277777777"


@each
def test_a_new_index_key_finds_everybody_again(app: Flask, people: People) -> None:
    """D2, D3."""
    alice, admin = people.sign_up(mobile="13255556666"), people.admin()
    app.config["FIELD_INDEX_KEY"] = "another-field-index-key-of-the-suite"
    found = admin.get("/admin/users?mobile=13255556666").get_json()["data"]["data"]
    assert found == []
    command(app, "keys", "reencrypt")
    (found,) = admin.get("/admin/users?mobile=13255556666").get_json()["data"]["data"]
    assert found["id"] == alice.id


@each
def test_old_events_go_and_the_rest_is_a_chain(app: Flask, people: People) -> None:
    """L3: in batches; the deletion is told by the audit itself, and nothing else can delete."""
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as time:
        alice = people.sign_up("alice-liddell")
        for _ in range(4):
            people.log_in("alice-liddell")
        time.shift(timedelta(days=100))
        people.log_in("alice-liddell")
        assert command(app, "audit", "purge", "--days=90", "--batch=2") == ["deleted 5 events"]
        assert command(app, "audit", "purge", "--days=90") == ["deleted 0 events"]
        alice = people.log_in("alice-liddell")
    assert command(app, "audit", "verify") == ["5 events, none changed"]  # two logins, and one purge a batch
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
