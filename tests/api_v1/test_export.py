"""The export of a user's data, and what remains after a deletion."""

import pytest
from flask import Flask
from sqlalchemy import text

from apps.extensions import db
from tests.support.people import BIRTH, People

FORBIDDEN = (403, "forbidden")


def test_one_gets_everything_that_is_held(app: Flask, people: People) -> None:
    """GDPR, articles 15 and 20: the account, each session and each event, without the password hash."""
    alice, bob = people.sign_up("alice-liddell"), people.sign_up("bob-the-builder")
    with app.app_context():
        signed_up = db.session.scalar(text("SELECT request_id FROM audit_events WHERE id = 1"))
    ended = people.log_in("alice-liddell").post("/logout").headers["X-Request-ID"]
    response = alice.get(f"/users/{alice.id}/export")
    assert response.status_code == 200
    data = response.get_json()["data"]
    user = data["user"]
    assert (user["id"], user["username"], user["mobile"], user["age"]) == (alice.id, "alice-liddell", "13200001111", 18)
    assert user["birth"].startswith(BIRTH[:10])
    with app.app_context():
        columns = set(db.metadata.tables["users"].columns.keys())
    hidden = {"password_hash", "username_key", "mobile_ciphertext", "mobile_index", "version"}
    assert set(user) == columns - hidden | {"mobile"}
    assert [session["revoke_reason"] for session in data["sessions"]] == ["logout", None]
    assert [event["event"] for event in data["audit"]] == ["session.end", "login", "user.sign_up"]
    assert [event["request_id"] for event in data["audit"]][::2] == [ended, signed_up]
    assert "argon2" not in response.text
    assert str(bob.username) not in response.text
    assert alice.get("/audit").get_json()["data"]["data"][0]["event"] == "user.export"


@pytest.mark.stores("sqlite")
def test_only_oneself_with_a_fresh_token_or_an_admin_may(people: People) -> None:
    """Z1, R9: another user's export is forbidden, whether the user exists or not."""
    alice, bob, admin = people.sign_up(), people.sign_up(), people.admin()
    stale = alice.refresh().get_json()["data"]["access_token"]
    told = alice.get(f"/users/{alice.id}/export", token=stale)
    assert (told.status_code, told.get_json()["error"]["type"]) == (401, "fresh_token_required")
    for user_id in (bob.id, 999_999):
        refused = alice.get(f"/users/{user_id}/export")
        assert (refused.status_code, refused.get_json()["error"]["type"]) == FORBIDDEN
    assert admin.get(f"/users/{bob.id}/export").get_json()["data"]["user"]["username"] == bob.username
    assert admin.get("/users/999999/export").status_code == 404


@pytest.mark.stores("sqlite")
def test_an_admin_who_acted_is_not_traced_by_it(people: People) -> None:
    """Z5: the export hides who acted, from where and in which request."""
    alice, admin = people.sign_up(), people.admin()
    act = admin.patch(f"/users/{alice.id}", json={"info": {"age": 30}}).headers["X-Request-ID"]
    event = alice.get(f"/users/{alice.id}/export").get_json()["data"]["audit"][0]
    assert (event["actor_id"], event["address"], event["request_id"]) == (None, None, None)
    events = admin.get(f"/users/{alice.id}/export").get_json()["data"]["audit"]
    assert act in [event["request_id"] for event in events]


def test_of_who_is_deleted_only_pseudonyms_are_left(app: Flask, people: People) -> None:
    """GDPR, article 17: no table has the name, number, full address or device; ids are never reused."""
    alice = people.sign_up("alice-liddell", mobile="13255556666")
    people.client.environ_base |= {"HTTP_USER_AGENT": "a very rare device", "REMOTE_ADDR": "203.0.113.77"}
    people.log_in("alice-liddell")
    assert alice.delete(f"/users/{alice.id}").status_code == 200
    with app.app_context():
        for table in db.metadata.sorted_tables:
            rows = str(db.session.execute(text(f"SELECT * FROM {table.name}")).all())
            for personal in ("liddell", "13255556666", "203.0.113.77", "rare device"):
                assert personal not in rows, table.name
    assert people.sign_up("alice-liddell").id != alice.id
