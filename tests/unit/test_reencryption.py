"""`manage.py keys reencrypt` and `check`: move all fields to a new key, so that the old one can be removed."""

import itertools
import time

import pytest
from flask import Flask
from sqlalchemy import select

from apps.config import TestConfig
from apps.extensions import db
from apps.models import SigningKey, User
from apps.security import field_encryption
from apps.services import reencryption
from tests.support.keys import command, rotate
from tests.support.people import People, Person
from tests.support.settings import change_settings

each = pytest.mark.stores("sqlite", "postgresql", "mariadb")
OLD, NEW = TestConfig.FIELD_ENCRYPTION_KEYS[0], "another-field-encryption-key-of-the-suite"


def keys_of(app: Flask) -> set[bytes]:
    """Return the ids of the keys that encrypted the stored fields."""
    with app.app_context():
        fields = [*db.session.scalars(select(User.mobile_ciphertext))]
        fields += db.session.scalars(select(SigningKey.private_key_ciphertext))
        return {bytes(field[1:5]) for field in fields}


@each
@pytest.mark.settings(JWT_ALGORITHM="EdDSA", JWT_KEYS_RELOAD=0.1)
def test_every_field_gets_the_new_key_while_people_change_theirs(app: Flask, people: People) -> None:
    """D3: with a run that is stopped and repeated. No number is lost, and no version or session changes."""
    rotate(app)
    everybody = [people.sign_up(mobile=f"132000{number:05}") for number in range(12)]
    change_settings(app, FIELD_ENCRYPTION_KEYS=[NEW, OLD])
    etags = [person.get("/users/").headers["ETag"] for person in everybody]
    with app.app_context():
        run = reencryption.reencrypt(batch=5)
        assert next(run) == 5
        run.close()  # tests/faults/test_reencryption.py kills the process
    changed: Person = everybody[7]
    assert changed.patch(f"/users/{changed.id}", json={"mobile": "13299999999"}).status_code == 200
    assert command(app, "keys", "reencrypt", "--batch=5")[-1] == "re-encrypted 7 rows"  # six users, and the signing key
    assert len(keys_of(app)) == 1
    change_settings(app, FIELD_ENCRYPTION_KEYS=[NEW], CACHE_PREFIX="a CACHE_TTL later")
    for number, person in enumerate(everybody):
        read = person.get(f"/users/{person.id}")
        expected = "13299999999" if person is changed else f"132000{number:05}"
        assert read.get_json()["data"]["mobile"] == expected
        assert (read.headers["ETag"] == etags[number]) == (person is not changed)
    assert command(app, "keys", "reencrypt")[-1] == "re-encrypted 0 rows"


@each
def test_a_change_between_the_look_and_the_writing_wins(app: Flask, people: People) -> None:
    """D3: a row is replaced only if it is unchanged since it was read."""
    alice = people.sign_up(mobile="13200001111")
    change_settings(app, FIELD_ENCRYPTION_KEYS=[NEW, OLD])
    with app.app_context():
        before = db.session.scalar(select(User.mobile_ciphertext))
        row = User.__table__.c
        ciphertext = field_encryption.encrypt("13277777777", f"users.mobile:{alice.id}")
        db.session.execute(User.__table__.update().values(mobile_ciphertext=ciphertext))  # type: ignore[attr-defined]
        unchanged = User.__table__.update().where(row.mobile_ciphertext == before)  # type: ignore[attr-defined]
        assert db.session.execute(unchanged.values(age=99)).rowcount == 0  # type: ignore[attr-defined]
        db.session.commit()
        assert sum(reencryption.reencrypt(batch=5)) == 1  # its index, which the change above did not update
        assert db.session.get_one(User, alice.id).mobile == "13277777777"


@each
def test_a_new_index_key_finds_everybody_again(app: Flask, people: People) -> None:
    """D2, D3."""
    alice, admin = people.sign_up(mobile="13255556666"), people.admin()
    change_settings(app, FIELD_INDEX_KEY="another-field-index-key-of-the-suite")
    found = admin.get("/admin/users?mobile=13255556666").get_json()["data"]["data"]
    assert found == []
    command(app, "keys", "reencrypt")
    (found,) = admin.get("/admin/users?mobile=13255556666").get_json()["data"]["data"]
    assert found["id"] == alice.id


@each
@pytest.mark.settings(JWT_ALGORITHM="EdDSA", JWT_KEYS_RELOAD=0.1)
def test_the_check_fails_while_rows_need_a_key_that_is_not_there(
    app: Flask, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D3: it counts users and signing keys per key, and the rows that would become unreadable."""
    monkeypatch.setattr(reencryption, "_BATCH", 2)
    rotate(app)
    for _ in range(3):
        people.sign_up()
    (old_id,) = (key.hex() for key in keys_of(app))
    change_settings(app, FIELD_ENCRYPTION_KEYS=[NEW])
    with app.app_context():
        new_id = field_encryption.key_ids()[0].hex()
    result = app.test_cli_runner().invoke(args=["keys", "check"])
    assert (result.exit_code, result.output.splitlines()) == (
        1,
        [
            f"{new_id}  encrypts  0 users, 0 signing keys",
            f"{old_id}  missing  3 users, 1 signing keys",
            "Error: 4 rows need a key that is not configured",
        ],
    )
    change_settings(app, FIELD_ENCRYPTION_KEYS=[NEW, OLD])
    assert command(app, "keys", "check")[1] == f"{old_id}  decrypts  3 users, 1 signing keys"
    command(app, "keys", "reencrypt")
    change_settings(app, FIELD_ENCRYPTION_KEYS=[NEW])
    assert command(app, "keys", "check") == [f"{new_id}  encrypts  3 users, 1 signing keys"]


@pytest.mark.stores("sqlite")
def test_it_rests_after_each_batch(app: Flask, people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    """D3: throttled."""
    for _ in range(3):
        people.sign_up()
    rests: list[float] = []
    monkeypatch.setattr(time, "sleep", rests.append)
    command(app, "keys", "reencrypt", "--batch=1", "--pause=0.25")
    assert rests[:3] == [0.25] * 3


@pytest.mark.stores("sqlite")
def test_a_new_key_behind_the_old_one_breaks_no_process_that_has_it_there(app: Flask, people: People) -> None:
    """D3: during each step of docs/data.md, old and new processes can read each other's rows."""
    steps = [[OLD], [OLD, NEW], [NEW, OLD], [NEW]]
    for before, after in itertools.pairwise(steps):
        change_settings(app, CACHE_PREFIX=f"step {len(after)} {after[0]}")
        for writes, reads in ((before, after), (after, before)):
            change_settings(app, FIELD_ENCRYPTION_KEYS=writes)
            person = people.sign_up()
            change_settings(app, FIELD_ENCRYPTION_KEYS=reads, CACHE_PREFIX=f"{person.id}")
            assert person.get("/users/").get_json()["data"]["mobile"] == "13200001111"
        if after == [NEW, OLD]:
            command(app, "keys", "reencrypt")
