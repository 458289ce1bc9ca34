"""T12: a key is published, signs, only verifies, and is retired. No step refuses a valid token."""

import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from apps.config import BaseConfig, settings
from apps.database.bulkhead import Bulkhead
from apps.errors import DatabaseUnavailable, NoSigningKey
from apps.extensions import db
from apps.models import AuditEvent, SigningKey
from apps.services import key as keys
from apps.utils import clock
from tests.support.forge import REFUSAL, verdict
from tests.support.keys import command, refusal, rotate, signing_key_of
from tests.support.people import People
from tests.support.settings import change_settings

AHEAD = BaseConfig.JWT_KEYS_PUBLISH_AHEAD

pytestmark = [
    pytest.mark.stores("sqlite", "postgresql", "mariadb"),
    pytest.mark.settings(JWT_ALGORITHM="EdDSA", JWT_KEYS_RELOAD=0.1),
]


def published(client: FlaskClient) -> set[str]:
    return {key["kid"] for key in client.get("/.well-known/jwks.json").get_json()["keys"]}


def read_keys_anew(app: Flask) -> None:
    """Reload the keys, as each process does every JWT_KEYS_RELOAD seconds."""
    keys.init_app(app)


def generate(app: Flask) -> str:
    return command(app, "keys", "generate")[-1].removeprefix("published ")


def schedule(app: Flask) -> str:
    """Rotate without haste, and return what the command prints."""
    return command(app, "keys", "rotate")[-1]


def test_two_keys_live_side_by_side(app: Flask, client: FlaskClient, people: People) -> None:
    """T12: a rotation refuses no token of the previous key."""
    first = rotate(app)
    before = people.sign_up()
    second = rotate(app)
    read_keys_anew(app)
    after = people.sign_up()
    assert signing_key_of(app).kid == second != first
    assert published(client) == {first, second}
    assert [person.get("/users/").status_code for person in (before, after)] == [200, 200]
    assert before.refresh().status_code == 200


def test_a_key_is_published_before_it_signs(app: Flask, client: FlaskClient) -> None:
    """T12: services that verify by JWKS have the key before its first token arrives."""
    first = rotate(app)
    waiting = generate(app)
    read_keys_anew(app)
    assert published(client) == {first, waiting}
    assert signing_key_of(app).kid == first
    with time_machine.travel(clock.now() + AHEAD - timedelta(minutes=1)) as time:
        line = schedule(app)
        assert re.fullmatch(rf"signing from \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC with {waiting}", line)
        read_keys_anew(app)
        assert signing_key_of(app).kid == first
        time.shift(timedelta(minutes=1, seconds=1))
        assert signing_key_of(app).kid == waiting


def test_the_very_first_key_signs_at_once(app: Flask, people: People) -> None:
    """T12: no service can have a JWK Set without it that would refuse its tokens."""
    assert schedule(app) == f"signing with {signing_key_of(app).kid}"
    assert people.sign_up().get("/users/").status_code == 200


def test_the_very_first_key_signs_by_a_clock_that_is_behind(app: Flask) -> None:
    """T12: the clocks of the command and of a process may differ by more than JWT_LEEWAY."""
    first = rotate(app)
    with time_machine.travel(clock.now() - timedelta(minutes=5)):
        assert signing_key_of(app).kid == first


@pytest.mark.parametrize("number_of_keys", [0, 1])
def test_parallel_rotations_make_one_key(app: Flask, monkeypatch: pytest.MonkeyPatch, number_of_keys: int) -> None:
    """T12: of several very first keys at once, all but one would sign before services can have them."""
    before = [rotate(app) for _ in range(number_of_keys)]

    select_keys, meeting = keys._select_keys, threading.Barrier(2)

    def select_beside_another() -> Sequence[SigningKey]:
        """Let another rotation read the same keys, if it can."""
        rows = select_keys()
        with suppress(threading.BrokenBarrierError):
            meeting.wait(timeout=0.5)
        return rows

    def rotate_once(_: int) -> str:
        with app.app_context():
            return keys.rotate_key("EdDSA", at_once=False).kid

    with monkeypatch.context() as patch, ThreadPoolExecutor(2) as threads:
        patch.setattr(keys, "_select_keys", select_beside_another)
        assert len(set(threads.map(rotate_once, range(2))) - set(before)) == 2 - number_of_keys
    states = sorted(line.split()[4] for line in command(app, "keys", "list"))
    assert states == ["pending", "signing"]


def test_a_key_that_was_published_long_ago_signs_at_once(app: Flask) -> None:
    """T12: the time counts from the publication."""
    rotate(app)
    waiting = generate(app)
    with time_machine.travel(clock.now() + AHEAD):
        assert schedule(app) == f"signing with {waiting}"


def test_a_second_rotation_shows_the_pending_one(app: Flask) -> None:
    """T12: no key is skipped, and a retry of the command changes nothing. A later rotation makes a new key."""
    first, pending = rotate(app), schedule(app)
    kid = pending.split()[-1]
    generate(app)
    with time_machine.travel(clock.now() + AHEAD / 2) as time:
        assert [schedule(app), schedule(app)] == [pending, pending]
        assert command(app, "keys", "list")[1].endswith(f"  pending until {pending[13:36]}")
        assert [line.split()[-1] for line in command(app, "keys", "list")[::2]] == ["published", "signing"]
        time.shift(AHEAD)
        states = {line.split()[0]: line.split()[-1] for line in command(app, "keys", "list")}
        assert (states[kid], states[first]) == ("signing", "verifying")
        assert schedule(app).split()[-1] not in (kid, first)


def test_a_pending_rotation_is_brought_forward(app: Flask) -> None:
    """T12: with --now, as after a theft of the key that signs, and when JWT_KEYS_PUBLISH_AHEAD gets shorter."""
    rotate(app)
    pending = schedule(app)
    change_settings(app, JWT_KEYS_PUBLISH_AHEAD=AHEAD / 3)
    earlier = schedule(app)
    assert earlier.split()[-1] == pending.split()[-1]
    assert earlier < pending
    assert rotate(app) == pending.split()[-1]
    assert rotate(app) != pending.split()[-1]


def test_the_next_key_signs_in_time_while_the_database_is_away(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """T12, V2: a process knows in advance when the pending key begins to sign."""
    first, pending = rotate(app), schedule(app).split()[-1]
    read_keys_anew(app)
    assert signing_key_of(app).kid == first
    monkeypatch.setattr(keys, "list_keys", fail)
    with time_machine.travel(clock.now() + AHEAD):
        expire_ring(app)
        assert signing_key_of(app).kid == pending


def test_a_pending_key_of_another_algorithm_signs_in_time(app: Flask, people: People) -> None:
    """T12: processes with the new JWT_ALGORITHM sign with the old key until then, so their start refuses no login."""
    first = rotate(app)
    change_settings(app, JWT_ALGORITHM="ES256")
    pending = schedule(app).split()[-1]
    read_keys_anew(app)
    alice = people.sign_up()
    assert (signing_key_of(app).kid, alice.get("/users/").status_code) == (first, 200)
    assert "this is the signing key; rotate first" in refusal(app, "keys", "retire", first)
    with time_machine.travel(clock.now() + AHEAD):
        assert signing_key_of(app).kid == pending
        assert people.log_in(alice.username).get("/users/").status_code == 200


def test_a_key_that_nothing_replaced_is_not_retired(app: Flask) -> None:
    """T12: a command with another JWT_ALGORITHM than the service does not take the service's only key."""
    first = rotate(app)
    change_settings(app, JWT_ALGORITHM="ES256")
    assert "no other key has replaced it; rotate first" in refusal(app, "keys", "retire", first)


def test_a_retired_key_verifies_nothing(app: Flask, client: FlaskClient, people: People) -> None:
    """T12: with --force, as after a theft, at once. Tokens of the other key stay valid."""
    stolen = rotate(app)
    before = people.sign_up("alice-liddell")
    kept = rotate(app)
    command(app, "keys", "retire", stolen, "--force")
    read_keys_anew(app)
    assert published(client) == {kept}
    assert [verdict(before.get("/users/")), verdict(before.refresh())] == [REFUSAL] * 2
    assert people.log_in("alice-liddell").get("/users/").status_code == 200


def test_a_key_is_not_retired_while_its_tokens_may_live(app: Flask, people: People) -> None:
    """T12: the signing key neither. A key may be retired when its last refresh token has expired."""
    first = rotate(app)
    people.sign_up()
    assert "this is the signing key; rotate first" in refusal(app, "keys", "retire", first)
    assert "this is the signing key; rotate first" in refusal(app, "keys", "retire", first, "--force")
    rotate(app)
    assert "tokens signed with it may be valid until" in refusal(app, "keys", "retire", first)
    longest = settings(app).JWT_REFRESH_TOKEN_EXPIRES + 2 * settings(app).JWT_LEEWAY
    with time_machine.travel(clock.now() + longest - timedelta(seconds=1)):
        assert "tokens signed with it may be valid until" in refusal(app, "keys", "retire", first)
    with time_machine.travel(clock.now() + longest + timedelta(seconds=1)):
        assert command(app, "keys", "retire", first) == [f"retired {first}"]


def test_a_key_that_is_about_to_sign_is_not_retired(app: Flask) -> None:
    """T12: until every process has read the retirement, some would still sign with it."""
    rotate(app)
    pending = schedule(app).split()[-1]
    margin = settings(app).JWT_LEEWAY + timedelta(seconds=settings(app).JWT_KEYS_RELOAD)
    with time_machine.travel(clock.now() + AHEAD - margin + timedelta(seconds=1)):
        assert "this is the signing key; rotate first" in refusal(app, "keys", "retire", pending, "--force")
    assert command(app, "keys", "retire", pending) == [f"retired {pending}"]


def test_a_key_that_never_signed_may_go_at_once(app: Flask) -> None:
    rotate(app)
    waiting = generate(app)
    assert command(app, "keys", "retire", waiting) == [f"retired {waiting}"]
    assert "no such key" in refusal(app, "keys", "retire", waiting)


def test_the_private_half_is_encrypted_at_rest(app: Flask) -> None:
    """D1: a stolen table cannot sign, and a ciphertext moved to another row does not decrypt."""
    kid, other = rotate(app), rotate(app)
    with app.app_context():
        raw = keys.signing_key().private_key.private_bytes_raw()  # type: ignore[union-attr]
        rows = {row.kid: row for row in db.session.scalars(select(SigningKey))}
        ciphertext = bytes(rows[kid].private_key_ciphertext)
        assert raw not in bytes(rows[other].private_key_ciphertext)
        rows[other].private_key_ciphertext = ciphertext
        db.session.commit()
        keys.init_app(app)
        with pytest.raises(NoSigningKey):
            keys.signing_key()


def test_every_step_is_audited(app: Flask) -> None:
    """L3, T12."""
    first = rotate(app)
    second = rotate(app)
    command(app, "keys", "retire", first, "--force")
    with app.app_context():
        events = db.session.scalars(select(AuditEvent).order_by(AuditEvent.id)).all()
    steps = [("key.publish", first), ("key.activate", first), ("key.publish", second), ("key.activate", second)]
    assert len(events) == 5
    for event, (name, kid) in zip(events, [*steps, ("key.retire", first)], strict=True):
        assert (event.event, event.outcome) == (name, "success")
        assert kid in event.detail


def test_a_process_that_cannot_read_the_keys_keeps_those_it_has(
    app: Flask, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V2: while the database is unavailable, the keys read before still verify tokens."""
    rotate(app)
    alice = people.sign_up()
    expire_ring(app)

    monkeypatch.setattr(keys, "list_keys", fail)
    assert alice.get("/users/").status_code == 200


def test_a_full_bulkhead_leaves_a_process_the_keys_it_has(app: Flask, people: People) -> None:
    """V2: a hung database fills the bulkhead, which then refuses to read the keys."""
    rotate(app)
    alice = people.sign_up()
    expire_ring(app)
    full = Bulkhead(1, stuck_after=0)
    app.extensions["bulkhead"] = full
    with full.enter():
        with app.app_context(), pytest.raises(DatabaseUnavailable):
            keys.list_keys()
        assert alice.get("/users/").status_code == 200
        assert app.extensions["key_ring"].read_at > float("-inf")
        assert alice.refresh().status_code == 200


def fail() -> None:
    raise OperationalError("SELECT", {}, Exception("gone"))


def expire_ring(app: Flask) -> None:
    """Let the next use of the keys read them again."""
    ring = app.extensions["key_ring"]
    app.extensions["key_ring"] = keys.KeyRing(ring.schedule, ring.verifying, float("-inf"))


def test_a_key_that_cannot_be_read_takes_no_other_with_it(app: Flask, client: FlaskClient, people: People) -> None:
    """T12: neither one of before nor a new start; it is told in the log."""
    kid = rotate(app)
    alice = people.sign_up("alice-liddell")
    with app.app_context():
        broken = SigningKey(kid="broken", algorithm="EdDSA", private_key_ciphertext=b"x" * 60)
        db.session.add(broken)
        db.session.commit()
    read_keys_anew(app)
    assert published(client) == {kid}
    assert alice.get("/users/").status_code == people.log_in("alice-liddell").refresh().status_code == 200
