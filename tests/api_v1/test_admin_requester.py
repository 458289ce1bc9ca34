"""Requests of an admin: the role is checked again at the change, and If-Match protects the version that was read."""

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import NullPool, create_engine, text, update

from apps.extensions import db
from apps.models import User
from apps.services import account
from apps.services import admin as admins
from apps.services import user as users
from tests.api_v1.test_admin import ACTS, do, refusal
from tests.support.people import PASSWORD, People, Person, sign_up_body

CHANGES = [act for act in ACTS if act != "read"]
WRITES: dict[str, tuple[str, str, Any]] = {
    **{act: (ACTS[act][0], f"/admin/users/{{}}{ACTS[act][1]}", ACTS[act][2]) for act in CHANGES},
    "change": ("PATCH", "/users/{}", {"info": {"age": 44}}),
    "delete as a user": ("DELETE", "/users/{}", None),
}
LOSSES = {
    "demoted": ("UPDATE users SET role = 'user' WHERE id = :id", (403, "forbidden")),
    "logged out": ("UPDATE sessions SET revoke_time = end_time WHERE user_id = :id", (401, "invalid_token")),
}


def version(app: Flask, person: Person) -> int:
    with app.app_context():
        return db.session.get_one(User, person.id).version


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.stores("postgresql", "mariadb")
def test_who_is_no_admin_any_more_when_the_row_is_locked_changes_nothing(
    app: Flask, people: People, database_url: str, monkeypatch: pytest.MonkeyPatch, write: str, loss: str
) -> None:
    """Z4, R6: the role is lost between the check of the token and the change."""
    people.admin()
    admin, alice = people.admin(), people.sign_up("alice-liddell")
    statement, expected = LOSSES[loss]
    lock_user, before = account.lock_user, version(app, alice)

    def lock_after_the_loss(*args: Any) -> User:
        with create_engine(database_url, poolclass=NullPool).begin() as elsewhere:
            elsewhere.execute(text(statement), {"id": admin.id})
        return lock_user(*args)

    for service in (users, admins, account):
        monkeypatch.setattr(service, "lock_user", lock_after_the_loss)
    method, path, body = WRITES[write]
    assert refusal(admin.request(method, path.format(alice.id), json=body)) == expected
    assert version(app, alice) == before
    assert alice.get("/users/").status_code == 200


@pytest.mark.parametrize("act", CHANGES)
@pytest.mark.stores("sqlite", "postgresql")
def test_an_admin_changes_the_version_that_they_have_read(app: Flask, people: People, act: str) -> None:
    """N2."""
    admin, alice = people.admin(), people.sign_up()
    etag = do(admin, "read", alice.id).headers["ETag"]
    alice.patch(f"/users/{alice.id}", json={"info": {"age": 44}})
    written = version(app, alice)
    method, path, body = ACTS[act]
    stale = admin.request(method, f"/admin/users/{alice.id}{path}", json=body, headers={"If-Match": etag})
    assert refusal(stale) == (412, "stale_version")
    assert version(app, alice) == written
    etag = do(admin, "read", alice.id).headers["ETag"]
    current = admin.request(method, f"/admin/users/{alice.id}{path}", json=body, headers={"If-Match": etag})
    assert current.status_code == 200


@pytest.mark.stores("sqlite", "postgresql")
def test_an_account_with_an_unreadable_mobile_is_found_and_mended(app: Flask, people: People) -> None:
    """D1: a broken ciphertext is refused and logged, and an admin can still act on the account."""
    admin, alice = people.admin(), people.sign_up()
    with app.app_context():
        db.session.execute(update(User).where(User.id == alice.id).values(mobile_ciphertext=b"\x01broken"))
        db.session.commit()
    listed = admin.get("/admin/users").get_json()["data"]["data"]
    assert {account["id"]: account["mobile"] for account in listed} == {admin.id: "13200001111", alice.id: None}
    for act in ("block", "unblock", "read"):
        assert do(admin, act, alice.id).status_code == 200
    assert admin.patch(f"/users/{alice.id}", json={"mobile": "13200002222"}).status_code == 200
    assert do(admin, "read", alice.id).get_json()["data"]["mobile"] == "13200002222"


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.settings(FAILED_LOGIN_ALLOWANCE=3)
@pytest.mark.stores("sqlite")
def test_an_admin_who_guesses_does_not_keep_the_owner_waiting(people: People) -> None:
    """B3, Z5: guesses are counted, separately for each requester."""
    admin, alice = people.admin(), people.sign_up("alice-liddell")
    guesses = [admin.patch(f"/users/{alice.id}", json={"password": f"a wrong guess {n}"}) for n in range(4)]
    assert [guess.status_code for guess in guesses] == [403, 403, 403, 429]
    body = {"current_password": PASSWORD, "new_password": "another horse battery"}
    assert alice.post("/password", json=body).status_code == 200


@pytest.mark.stores("sqlite")
def test_an_admin_replaces_a_blocked_user_too(people: People) -> None:
    """Z5: with the unchanged password in the body, as for any other user."""
    admin, alice = people.admin(), people.sign_up("alice-liddell")
    do(admin, "block", alice.id)
    assert admin.put(f"/users/{alice.id}", json=sign_up_body("alice-pleasance")).status_code == 200
