"""What admins may do to accounts, what other users may not, and what no admin may do."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.test import TestResponse

from apps.extensions import db
from apps.models import User
from apps.security import password_hash
from tests.support import stores
from tests.support.people import PASSWORD, People, Person, sign_up_body

MISSING = 2**53
ACCOUNT = {"id", "username", "age", "mobile", "role", "blocked", "create_time", "update_time"}
ACTS = {  # {name: (method, path after /admin/users/<id>, body)}
    "read": ("GET", "", None),
    "block": ("POST", "/block", None),
    "unblock": ("POST", "/unblock", None),
    "promote": ("PUT", "/role", {"role": "admin"}),
    "demote": ("PUT", "/role", {"role": "user"}),
    "end sessions": ("DELETE", "/sessions", None),
    "delete": ("DELETE", "", None),
}


def do(admin: Person, act: str, user_id: int) -> TestResponse:
    method, path, body = ACTS[act]
    return admin.request(method, f"/admin/users/{user_id}{path}", json=body)


def refusal(response: TestResponse) -> tuple[int, str]:
    return response.status_code, response.get_json()["error"]["type"]


def stored(app: Flask, user_id: int) -> dict[str, Any]:
    with app.app_context():
        return dict(db.session.execute(text("SELECT * FROM users WHERE id = :id"), {"id": user_id}).mappings().one())


def count_active_admins(app: Flask) -> int:
    with app.app_context():
        query = text("SELECT count(*) FROM users WHERE role = 'admin' AND block_time IS NULL")
        return int(db.session.scalar(query) or 0)


@pytest.mark.parametrize("act", ["read", "block", "unblock", "promote", "demote"])
@pytest.mark.stores("sqlite")
def test_an_account_has_exactly_these_keys(people: People, act: str) -> None:
    """Z3."""
    admin, alice = people.admin(), people.sign_up("alice-liddell")
    data = do(admin, act, alice.id).get_json()["data"]
    assert set(data) == ACCOUNT
    assert (data["id"], data["username"], data["mobile"]) == (alice.id, "alice-liddell", "13200001111")


@pytest.mark.stores("sqlite")
def test_no_answer_to_an_admin_holds_what_is_stored(app: Flask, people: People) -> None:
    """Z3: a response contains no hash, ciphertext, index or version under any name."""
    admin, alice = people.admin(), people.sign_up()
    row = stored(app, alice.id)
    answers = [do(admin, act, alice.id).text for act in ("read", "promote", "demote", "block", "unblock")]
    text_ = "".join([*answers, admin.get("/admin/users").text, admin.get("/audit").text])
    blobs = [bytes(row[name]) for name in ("mobile_ciphertext", "mobile_index")]
    secrets = [row["password_hash"], "argon2", *[blob.hex() for blob in blobs], *[repr(blob) for blob in blobs]]
    assert [word for word in (*secrets, "version", "hash", "cipher", "index") if word in text_] == []


BODIES = {
    "sign up": ("POST", "/users/", sign_up_body("somebody-else")),
    "replace": ("PUT", "/users/{id}", sign_up_body("somebody-else")),
    "change": ("PATCH", "/users/{id}", {"info": {"age": 30}}),
    "log in": ("POST", "/login", {"username": "alice-liddell", "password": PASSWORD}),
    "log out": ("POST", "/logout", {"everywhere": True}),
    "change password": ("POST", "/password", {"current_password": PASSWORD, "new_password": PASSWORD + "!"}),
    "change role": ("PUT", "/admin/users/{id}/role", {"role": "admin"}),
}
NOT_TO_BE_WRITTEN = [*User.__table__.columns.keys(), "blocked", "is_admin", "sub", "__class__", "_sa_instance_state"]


@pytest.mark.parametrize("way", BODIES)
@pytest.mark.stores("sqlite")
def test_a_body_writes_nothing_but_its_own_fields(app: Flask, people: People, way: str) -> None:
    """Z2: every other column is refused, at the top level and nested, for admins as well."""
    admin, alice = people.admin(), people.sign_up("alice-liddell")
    method, path, body = BODIES[way]
    before = stored(app, alice.id)
    foreign = [name for name in NOT_TO_BE_WRITTEN if name not in body]
    bodies = [body | {name: body.get("role", 1)} for name in foreign]
    if "info" in body:
        bodies += [body | {"info": body["info"] | {name: 1}} for name in NOT_TO_BE_WRITTEN if name not in body["info"]]
    answers = [admin.request(method, path.format(id=alice.id), json=each) for each in bodies]
    assert {refusal(answer) for answer in answers} == {(400, "invalid_body")}
    assert stored(app, alice.id) == before


@pytest.fixture
def second(store: str, database_url: str) -> Iterator[People]:
    """A second application on the same stores, like another process."""
    with stores.application(database_url, stores.cache_url(stores.PAIRS[store].cache)) as app:
        yield People(app.test_client())


def test_who_is_demoted_is_refused_at_once(people: People) -> None:
    """Z4: a token that was accepted a moment ago is refused."""
    admin, other = people.admin(), people.admin()
    assert other.get("/admin/users").status_code == 200
    assert do(admin, "demote", other.id).get_json()["data"]["role"] == "user"
    assert refusal(other.get("/admin/users")) == (403, "forbidden")
    assert other.get("/users/").status_code == 200


def test_who_is_promoted_is_let_in_at_once(people: People) -> None:
    """Z4."""
    admin, alice = people.admin(), people.sign_up()
    assert refusal(alice.get("/admin/users")) == (403, "forbidden")
    assert do(admin, "promote", alice.id).get_json()["data"]["role"] == "admin"
    assert alice.get("/admin/users").status_code == 200


@pytest.mark.parametrize(("act", "status"), [("demote", 403), ("block", 401), ("end sessions", 401), ("delete", 401)])
@pytest.mark.stores("postgresql", "mariadb")
def test_what_an_admin_does_bites_in_every_process(people: People, second: People, act: str, status: int) -> None:
    """Z4, R6: the other process has just cached the old state in the shared cache."""
    admin, other = people.admin(), people.admin()
    elsewhere = Person(second.client, other.id, other.username, other.access_token, other.refresh_token)
    assert elsewhere.get("/admin/users").status_code == 200
    assert do(admin, act, other.id).status_code == 200
    assert elsewhere.get("/admin/users").status_code == status


def test_a_refresh_does_not_bring_a_lost_role_back(people: People) -> None:
    """R9."""
    admin, other = people.admin(), people.admin()
    do(admin, "demote", other.id)
    token = other.refresh().get_json()["data"]["access_token"]
    assert refusal(other.get("/admin/users", token=token)) == (403, "forbidden")
    assert other.get("/users/", token=token).status_code == 200


@pytest.mark.parametrize("act", ["block", "demote", "delete", "delete oneself"])
def test_the_last_admin_stays(app: Flask, people: People, act: str) -> None:
    """Z5: a blocked admin does not count as one."""
    last, blocked = people.admin(), people.admin()
    assert do(last, "block", blocked.id).status_code == 200
    response = last.delete(f"/users/{last.id}") if act == "delete oneself" else do(last, act, last.id)
    assert refusal(response) == (409, "last_admin")
    assert stored(app, last.id)["role"] == "admin"
    assert last.get("/admin/users").status_code == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.stores("sqlite")
def test_an_admin_cannot_set_the_password_of_another(app: Flask, people: People, method: str) -> None:
    """Z5, ASVS 6.4.6: the request is refused, and no other field of the body is written."""
    admin, alice = people.admin(), people.sign_up("alice-liddell")
    before = stored(app, alice.id)
    body = sign_up_body("alice-pleasance", password="chosen by the admin")
    assert refusal(admin.request(method, f"/users/{alice.id}", json=body)) == (403, "forbidden")
    assert stored(app, alice.id) == before
    assert people.log_in("alice-liddell").id == alice.id


@pytest.mark.stores("sqlite")
def test_whose_account_it_is_does_not_trace_the_admin(people: People) -> None:
    """Z3: the owner sees what was done, also in the export. Only admins see who did it and from where."""
    admin, alice = people.admin(), people.sign_up("alice-liddell")
    do(admin, "unblock", alice.id)
    seen, whole = (who.get(f"/audit?user_id={alice.id}").get_json()["data"]["data"][0] for who in (alice, admin))
    assert (seen["event"], seen["subject_id"]) == ("user.unblock", alice.id)
    assert (seen["actor_id"], seen["session_id"], seen["address"]) == (None, None, None)
    assert seen | {"request_id": None} in alice.get(f"/users/{alice.id}/export").get_json()["data"]["audit"]
    assert (whole["actor_id"], whole["address"]) == (admin.id, "127.0.0.0/24")
    assert len(whole["session_id"]) == 32


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.stores("sqlite")
def test_an_admin_may_change_the_rest(people: People, method: str) -> None:
    """Z5: PUT with the unchanged password, and PATCH without a password."""
    admin, alice = people.admin(), people.sign_up("alice-liddell")
    body = sign_up_body("alice-pleasance", mobile="13900002222")
    if method == "PATCH":
        del body["password"]
    assert admin.request(method, f"/users/{alice.id}", json=body).status_code == 200
    assert do(admin, "read", alice.id).get_json()["data"]["mobile"] == "13900002222"
    assert people.log_in("alice-pleasance").id == alice.id


@pytest.mark.parametrize("role", ["admin", "user"])
@pytest.mark.stores("sqlite")
def test_nobody_but_an_admin_gives_a_role(app: Flask, people: People, role: str) -> None:
    """Z5: the tests of `BODIES` show that no other body sets a role."""
    alice, bob = people.sign_up(), people.sign_up()
    for user_id in (alice.id, bob.id, MISSING):
        assert refusal(alice.put(f"/admin/users/{user_id}/role", json={"role": role})) == (403, "forbidden")
    assert count_active_admins(app) == 0


@pytest.mark.parametrize("role", ["root", "Admin", "admin ", "", None, True, ["admin"], {"role": "admin"}])
@pytest.mark.stores("sqlite")
def test_there_are_two_roles(app: Flask, people: People, role: Any) -> None:
    admin, alice = people.admin(), people.sign_up()
    assert refusal(admin.put(f"/admin/users/{alice.id}/role", json={"role": role})) == (400, "invalid_body")
    assert stored(app, alice.id)["role"] == "user"


@pytest.mark.stores("sqlite")
def test_a_blocked_user_is_answered_as_a_wrong_password_is(people: People) -> None:
    """E1: equal status, headers and body, also with the right password."""
    admin, alice, _ = people.admin(), people.sign_up("alice-liddell"), people.sign_up("bob-the-builder")
    do(admin, "block", alice.id)
    headers = {"X-Request-ID": "the-same-for-all"}
    tries = [("alice-liddell", PASSWORD), ("alice-liddell", "wrong"), ("bob-the-builder", "wrong"), ("nobody", "wrong")]
    bodies = [{"username": username, "password": password} for username, password in tries]
    answers = [people.client.post("/api/v1/login", json=body, headers=headers) for body in bodies]
    assert refusal(answers[0]) == (401, "wrong_credentials")
    assert len({(answer.status, answer.data, str(answer.headers)) for answer in answers}) == 1


@pytest.mark.stores("sqlite")
def test_a_blocked_user_costs_the_work_of_an_unknown_one(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    """E1: whatever the parameters of the stored hash, and also with the right password."""
    admin, alice = people.admin(), people.sign_up("alice-liddell")
    do(admin, "block", alice.id)
    verified: list[str | None] = []

    def verify(_password: str, stored: str | None) -> bool:
        verified.append(stored)
        return False

    monkeypatch.setattr(password_hash, "verify_password", verify)
    for username in ("alice-liddell", "nobody-of-note"):
        body = {"username": username, "password": PASSWORD}
        assert refusal(people.client.post("/api/v1/login", json=body)) == (401, "wrong_credentials")
    assert verified == [None, None]


def test_who_is_blocked_is_out_until_unblocked(people: People) -> None:
    """Z4, R6: the old tokens stay refused after the unblocking."""
    admin, alice, bob = people.admin(), people.sign_up(), people.sign_up()
    assert do(admin, "block", alice.id).get_json()["data"]["blocked"] is True
    assert alice.get("/users/").status_code == alice.refresh().status_code == 401
    assert do(admin, "unblock", alice.id).get_json()["data"]["blocked"] is False
    assert people.log_in(alice.username).get("/users/").status_code == 200
    assert alice.get("/users/").status_code == alice.refresh().status_code == 401
    assert bob.get("/users/").status_code == 200


def test_an_admin_ends_the_sessions_of_one_user(people: People) -> None:
    """R8: all sessions of that user end, and no other session."""
    admin, alice, bob = people.admin(), people.sign_up(), people.sign_up()
    phone = people.log_in(alice.username)
    assert do(admin, "end sessions", alice.id).get_json()["data"] == {}
    assert [person.get("/users/").status_code for person in (alice, phone, bob, admin)] == [401, 401, 200, 200]
    assert people.log_in(alice.username).get("/users/").status_code == 200


def test_an_admin_deletes_a_user(people: People) -> None:
    """R6."""
    admin, alice = people.admin(), people.sign_up("alice-liddell")
    assert do(admin, "delete", alice.id).get_json()["message"] == f"delete user success: {alice.id}"
    assert alice.get("/users/").status_code == alice.refresh().status_code == 401
    assert people.sign_up("alice-liddell").id != alice.id


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.stores("sqlite")
def test_an_admin_is_told_that_there_is_no_such_user(people: People, act: str) -> None:
    admin, alice = people.admin(), people.sign_up()
    do(admin, "delete", alice.id)
    for user_id in (MISSING, alice.id):
        response = do(admin, act, user_id)
        assert refusal(response) == (404, "user_not_found")
        assert response.get_json()["message"] == f"user not found: {user_id}"
