"""Encrypted fields that cannot be decrypted: what still works, what is refused, and what is logged and audited."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask
from sqlalchemy import select, text, update

from apps.config import settings
from apps.errors import DatabaseUnavailable
from apps.extensions import db
from apps.models import AuditEvent, SigningKey, User
from apps.security import field_encryption
from apps.services import unreadable_field
from tests.faults import wait_until
from tests.support import metrics, stores
from tests.support.keys import add_client, basic, command, rotate
from tests.support.people import PASSWORD, People, Person, bearer
from tests.support.settings import change_settings

each = pytest.mark.stores("sqlite", "postgresql", "mariadb")
sqlite = pytest.mark.stores("sqlite")
REFUSED = (503, "data_unreadable")
NEW_KEY = "another-field-encryption-key-of-the-suite"


def blob_of(app: Flask, user_id: int) -> bytes:
    with app.app_context():
        return bytes(db.session.get_one(User, user_id).mobile_ciphertext)


def spoil(app: Flask, person: Person, blob: bytes) -> None:
    """Store `blob` as the mobile number, and forget what is cached."""
    with app.app_context():
        db.session.execute(update(User).where(User.id == person.id).values(mobile_ciphertext=blob))
        db.session.commit()
    change_settings(app, CACHE_PREFIX=f"{settings(app).CACHE_PREFIX}x")
    if "cache" in app.extensions and hasattr(app.extensions["cache"], "_entries"):
        app.extensions["cache"]._entries.clear()


CHANGED: dict[str, Callable[[bytes, bytes], bytes]] = {
    "of another row": lambda _own, other: other,
    "a bit": lambda own, _: own[:-1] + bytes([own[-1] ^ 1]),
    "nonce": lambda own, _: own[:5] + bytes(12) + own[17:],
    "an unknown key": lambda own, _: own[:1] + b"none" + own[5:],
    "another version": lambda own, _: b"\x02" + own[1:],
    "cut after the key id": lambda own, _: own[:5],
    "cut in the nonce": lambda own, _: own[:9],
    "cut in the text": lambda own, _: own[:20],
    "empty": lambda _own, _other: b"",
    "text": lambda _own, _other: b"13200001111",
}


@pytest.fixture(params=CHANGED.values(), ids=CHANGED)
def alice(request: pytest.FixtureRequest, app: Flask, people: People) -> Person:
    """A user whose mobile number was changed in the database."""
    alice, other = people.sign_up("alice-liddell"), people.sign_up(mobile="13299998888")
    spoil(app, alice, request.param(blob_of(app, alice.id), blob_of(app, other.id)))
    return alice


@pytest.fixture
def broken(app: Flask, people: People) -> Person:
    """A user whose mobile number was changed in the database, in one way."""
    broken = people.sign_up("alice-liddell")
    spoil(app, broken, b"\x01broken")
    return broken


def refusal(response: Any) -> tuple[int, str]:
    return response.status_code, response.get_json()["error"]["type"]


def audited(app: Flask, event: str = "user.unreadable") -> list[tuple[int | None, str, str]]:
    with app.app_context():
        rows = db.session.scalars(select(AuditEvent).where(AuditEvent.event == event).order_by(AuditEvent.id))
        return [(row.subject_id, row.outcome, row.detail) for row in rows]


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the lines but those of requests and of the audit."""
    return [record for record in caplog.records if record.getMessage() not in ("request", "audit")]


@each
def test_an_own_read_is_refused(app: Flask, alice: Person, caplog: pytest.LogCaptureFixture) -> None:
    """D4: with 503, so a client keeps its session; one log line for each read, and one audit event an hour."""
    caplog.clear()
    for path in ("/users/", f"/users/{alice.id}", "/users/"):
        response = alice.get(path)
        assert refusal(response) == REFUSED
        assert int(response.headers["Retry-After"]) >= 1
        (line,) = lines(caplog)
        assert (line.event, line.field, line.owner, line.exc_info) == ("field.unreadable", "mobile", alice.id, None)  # type: ignore[attr-defined]
        caplog.clear()
    assert audited(app) == [(alice.id, "failure", '{"field":"mobile"}')]


@sqlite
def test_the_user_can_still_act(alice: Person, people: People) -> None:
    """D4: log in, refresh, list and end sessions, change the password, log out."""
    login = people.client.post("/api/v1/login", json={"username": alice.username, "password": PASSWORD})
    data = login.get_json()["data"]
    assert (login.status_code, data["mobile"], data["unreadable"]) == (200, None, ["mobile"])
    again = Person(people.client, alice.id, alice.username, data["access_token"], data["refresh_token"])
    body = {"current_password": PASSWORD, "new_password": "another horse battery"}
    answers = [again.get("/sessions"), again.get("/audit"), again.refresh(), again.post("/password", json=body)]
    answers += [again.delete("/sessions"), again.post("/logout")]
    assert [answer.status_code for answer in answers] == [200] * 6


@sqlite
def test_the_user_can_delete_the_account(alice: Person) -> None:
    """D4."""
    assert alice.delete(f"/users/{alice.id}").status_code == 200


@each
def test_a_new_number_heals_the_account(app: Flask, alice: Person, people: People) -> None:
    """D4: by the user or an admin, and with a fresh token only. The search finds the new number."""
    stale = alice.refresh().get_json()["data"]["access_token"]
    body = {"mobile": "13200001111"}  # the same number as before, but the service cannot read that one
    assert refusal(alice.patch(f"/users/{alice.id}", json=body, token=stale)) == (401, "fresh_token_required")
    assert alice.patch(f"/users/{alice.id}", json=body).get_json()["data"]["mobile"] == "13200001111"
    assert alice.get("/users/").get_json()["data"]["mobile"] == "13200001111"
    found = people.admin().get("/admin/users?mobile=13200001111").get_json()["data"]["data"]
    assert {"mobile": "13200001111", "unreadable": None}.items() <= ({"unreadable": None} | found[0]).items()


@each
def test_a_change_that_could_not_be_answered_changes_nothing(app: Flask, broken: Person, people: People) -> None:
    """D4: a client may repeat it after the 503."""
    admin = people.admin()
    before = admin.get(f"/admin/users/{broken.id}")
    for sender in (broken, admin):
        for body in ({"info": {"age": 30}}, {"username": "alice-pleasance"}, {"mobile": None, "info": {"age": 31}}):
            assert refusal(sender.patch(f"/users/{broken.id}", json=body)) == REFUSED
    after = admin.get(f"/admin/users/{broken.id}")
    assert (after.data, after.headers["ETag"]) == (before.data, before.headers["ETag"])
    assert len(audited(app)) == 1


@each
def test_admins_and_exports_go_on_without_the_field(app: Flask, alice: Person, people: People) -> None:
    """D4: and say so. The search finds the account by the number that it had."""
    admin = people.admin()
    accounts = [account for path in ("/admin/users", "/admin/users?mobile=13200001111&username=alice-liddell")
                for account in admin.get(path).get_json()["data"]["data"] if account["id"] == alice.id]  # fmt: skip
    assert len(accounts) == 2
    accounts += [admin.get(f"/admin/users/{alice.id}").get_json()["data"]]
    accounts += [sender.get(f"/users/{alice.id}/export").get_json()["data"]["user"] for sender in (alice, admin)]
    assert [(account["mobile"], account["unreadable"]) for account in accounts] == [(None, ["mobile"])] * 5
    own = admin.get(f"/admin/users/{admin.id}").get_json()["data"]
    assert "unreadable" not in own
    assert "unreadable" not in admin.get(f"/users/{admin.id}/export").get_json()["data"]["user"]
    for act in ("block", "unblock"):
        assert admin.post(f"/admin/users/{alice.id}/{act}").get_json()["data"]["unreadable"] == ["mobile"]


@each
def test_a_lost_key_makes_every_number_unreadable_until_it_is_back(app: Flask, people: People) -> None:
    """D3, D4."""
    alice, old = people.sign_up(), settings(app).FIELD_ENCRYPTION_KEYS
    change_settings(app, FIELD_ENCRYPTION_KEYS=[NEW_KEY])
    assert refusal(alice.get("/users/")) == REFUSED
    change_settings(app, FIELD_ENCRYPTION_KEYS=[NEW_KEY, *old])
    assert alice.get("/users/").status_code == 200


@pytest.mark.stores("postgresql", "mariadb")
def test_the_audit_gets_one_event_an_hour_over_all_processes(
    app: Flask, broken: Person, people: People, database_url: str
) -> None:
    """D4: each process remembers the accounts that it audited, and the audit decides between processes."""
    start = datetime.now(UTC)
    with (
        time_machine.travel(start, tick=False) as clock,
        stores.application(database_url, settings(app).REDIS_URL) as other,
    ):
        for hours in (0, 0.9, 1.1, 1.9, 2.2):
            clock.move_to(start + timedelta(hours=hours))
            mine = people.log_in(broken.username)
            for each_app in (app, other):
                each_app.extensions["unreadable_fields"].audited.clear()  # its clock is the monotonic one
                answers = [
                    each_app.test_client().get("/api/v1/users/", headers=bearer(mine.access_token)) for _ in "ab"
                ]
                assert [refusal(answer) for answer in answers] == [REFUSED] * 2
        assert len(audited(app)) == 3


@sqlite
def test_a_read_needs_no_database_for_its_audit(
    app: Flask, broken: Person, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D4, V2: the event follows with a later read."""

    def fail(*_: object) -> None:
        raise DatabaseUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(unreadable_field, "_record_once", fail)
        caplog.clear()
        assert refusal(broken.get("/users/")) == REFUSED
        assert [line.event for line in lines(caplog)] == ["field.unreadable", "audit.unwritten"]  # type: ignore[attr-defined]
    assert audited(app) == []
    assert refusal(broken.get("/users/")) == REFUSED
    assert len(audited(app)) == 1


@sqlite
@pytest.mark.settings(METRICS_TOKEN=metrics.TOKEN)
def test_every_read_is_counted(app: Flask, broken: Person, people: People) -> None:
    """D4."""
    broken.get("/users/")
    people.admin().get("/admin/users")
    samples = metrics.parse(people.client.get("/metrics", headers=bearer(metrics.TOKEN)).text)
    assert metrics.total(samples, "gatehouse_unreadable_fields_total", field="mobile") == 2


@each
def test_commands_for_keys_go_on_and_name_the_rows(app: Flask, people: People) -> None:
    """D3, D4: the other rows are re-encrypted, and both commands fail."""
    bob, alice, carol = people.sign_up(), people.sign_up(), people.sign_up()
    spoil(app, alice, blob_of(app, bob.id))
    old = settings(app).FIELD_ENCRYPTION_KEYS
    change_settings(app, FIELD_ENCRYPTION_KEYS=[NEW_KEY, *old])
    run = app.test_cli_runner().invoke
    name = f"user {alice.id}: a blob that was changed or moved to users.mobile:{alice.id}"
    for done in (2, 0):
        result = run(args=["keys", "reencrypt", "--batch=2"])
        assert result.exit_code == 1
        wanted = [f"re-encrypted {done} rows", name, "Error: 1 rows cannot be decrypted and were left as they are"]
        assert [line for line in result.output.splitlines() if "so far" not in line] == wanted
    result = run(args=["keys", "check"])
    assert result.exit_code == 1
    assert result.output.splitlines()[2:] == [name, "Error: 1 rows were changed or moved"]
    spoil(app, alice, b"\x01cut")
    assert run(args=["keys", "check"]).output.splitlines()[1:] == [
        f"{field_key_id(app, old[0])}  decrypts  0 users, 0 signing keys",
        f"user {alice.id}: no key for a blob of users.mobile:{alice.id}",
        "Error: 1 rows were changed or moved",
    ]
    assert alice.patch(f"/users/{alice.id}", json={"mobile": "13200001111"}).status_code == 200
    assert command(app, "keys", "check")[0].endswith("encrypts  3 users, 0 signing keys")
    assert carol.get("/users/").status_code == 200


def field_key_id(app: Flask, secret: str) -> str:
    with app.app_context():
        return field_encryption._cipher(secret)[0].hex()


@pytest.mark.stores("postgresql", "mariadb")
@pytest.mark.settings(JWT_ALGORITHM="EdDSA", JWT_KEYS_RELOAD=0.1, METRICS_TOKEN=metrics.TOKEN)
def test_a_signing_key_that_cannot_be_decrypted_ends_no_session(
    app: Flask,
    people: People,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """D4: its tokens get 503, not 401, until the key is back; it is logged once, audited and counted."""
    kid = rotate(app)
    alice, headers = people.sign_up(), basic(*add_client(app))
    with app.app_context():
        whole = bytes(db.session.get_one(SigningKey, kid).private_key_ciphertext)
    store_key(app, kid, whole[:-1] + bytes([whole[-1] ^ 1]))
    options = {"JWT_ALGORITHM": "EdDSA", "JWT_KEYS_RELOAD": 0.1, "METRICS_TOKEN": metrics.TOKEN}
    with stores.application(database_url, settings(app).REDIS_URL, **options) as other:
        monkeypatch.setattr(logging.getLogger("apps"), "propagate", True)  # the second application configured the log
        client = other.test_client()
        caplog.clear()
        for _ in range(3):
            assert refusal(client.get("/api/v1/users/", headers=bearer(alice.access_token))) == REFUSED
            assert refusal(client.post("/api/v1/refresh", headers=bearer(alice.refresh_token))) == REFUSED
            asked = client.post("/api/v1/introspect", data={"token": alice.access_token}, headers=headers)
            assert refusal(asked) == REFUSED
            body = {"username": alice.username, "password": PASSWORD}
            assert refusal(client.post("/api/v1/login", json=body)) == (503, "no_signing_key")
            time.sleep(0.11)  # the keys are read again
        unreadable, *others = lines(caplog)
        assert (unreadable.event, unreadable.owner) == ("field.unreadable", kid)  # type: ignore[attr-defined]
        assert {line.event for line in others} <= {"keys.missing"}  # type: ignore[attr-defined] # a login needs a key
        assert audited(app, "key.unreadable") == [(None, "failure", f'{{"kid":"{kid}"}}')]
        samples = metrics.parse(client.get("/metrics", headers=bearer(metrics.TOKEN)).text)
        assert metrics.total(samples, "gatehouse_unreadable_fields_total", field="signing key") == 1
        store_key(app, kid, whole)
        wait_until(lambda: client.get("/api/v1/users/", headers=bearer(alice.access_token)).status_code == 200)


@pytest.mark.stores("postgresql", "mariadb")
@pytest.mark.settings(JWT_ALGORITHM="EdDSA", JWT_KEYS_RELOAD=0.1)
def test_a_signing_key_that_is_lost_for_good_is_replaced(app: Flask, people: People, database_url: str) -> None:
    """D4: logins succeed again after a rotation, and the old tokens get 401 once the key is retired."""
    lost = rotate(app)
    alice = people.sign_up()
    store_key(app, lost, b"")
    options = {"JWT_ALGORITHM": "EdDSA", "JWT_KEYS_RELOAD": 0.1}
    with stores.application(database_url, settings(app).REDIS_URL, **options) as other:
        client = other.test_client()
        assert refusal(client.get("/api/v1/users/", headers=bearer(alice.access_token))) == REFUSED
        rotate(app)
        again = People(client).log_in(alice.username)
        assert again.get("/users/").status_code == 200
        command(app, "keys", "retire", lost, "--force")
        wait_until(lambda: again.get("/users/", token=alice.access_token).status_code == 401)
        assert again.get("/users/").status_code == 200


def store_key(app: Flask, kid: str, blob: bytes) -> None:
    with app.app_context():
        statement = text("UPDATE signing_keys SET private_key_ciphertext = :blob WHERE kid = :kid")
        db.session.execute(statement, {"blob": blob, "kid": kid})
        db.session.commit()
