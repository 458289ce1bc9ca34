"""Users: signed up, read, updated and deleted, by themselves, by others and by an admin."""

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from flask import Flask
from sqlalchemy import text

from apps.config import settings
from apps.extensions import db
from apps.security import field_encryption
from tests.support.people import BIRTH, People, sign_up_body
from tests.support.settings import change_settings

MISSING = 2**53
BY_ID = ["GET", "PUT", "PATCH", "DELETE"]
MOBILE = "13200001111"


def stored(app: Flask, user_id: int) -> Mapping[str, Any]:
    """Return the row as it lies in the database, past every type of ours."""
    with app.app_context():
        return dict(db.session.execute(text("SELECT * FROM users WHERE id = :id"), {"id": user_id}).mappings().one())


def store(app: Flask, user_id: int, **columns: Any) -> None:
    settings = ", ".join(f"{name} = :{name}" for name in columns)
    with app.app_context():
        db.session.execute(text(f"UPDATE users SET {settings} WHERE id = :id"), columns | {"id": user_id})
        db.session.commit()


def data(username: str, user_id: int, **changes: Any) -> dict[str, Any]:
    """Return `data` of an answer with a user; see `test_an_answer_holds_its_keys_and_no_other`."""
    return {"username": username, "id": user_id, "age": 18, "mobile": MOBILE} | changes


@pytest.mark.parametrize("path", ["/users/", "/users/{id}"])
def test_one_reads_oneself_from_the_cache_with_numbers_as_numbers(people: People, path: str) -> None:
    """README, "Coming from the tutorial", 1: numbers stay numbers when they come from the cache."""
    alice = people.sign_up("alice-liddell")
    response = alice.get(path.format(id=alice.id))
    assert response.get_json()["data"] == data("alice-liddell", alice.id, cache=True)
    assert isinstance(response.get_json()["data"]["id"], int)


def test_one_reads_oneself_without_the_cache(app: Flask, people: People) -> None:
    alice = people.sign_up("alice-liddell")
    change_settings(app, CACHE_PREFIX="empty")
    assert alice.get("/users/").get_json()["data"] == data("alice-liddell", alice.id)
    assert alice.get("/users/").get_json()["data"] == data("alice-liddell", alice.id, cache=True)


@pytest.mark.parametrize("body", [sign_up_body("white-rabbit"), {"unknown": 1}, None])
@pytest.mark.parametrize("method", BY_ID)
@pytest.mark.stores("sqlite", "postgresql")
def test_another_id_is_forbidden_whether_it_exists_or_not(app: Flask, people: People, method: str, body: Any) -> None:
    """Z1: alike to the byte, whatever the body."""
    alice, bob = people.sign_up(), people.sign_up()
    before = stored(app, bob.id)
    existing, missing = (alice.request(method, f"/users/{user_id}", json=body) for user_id in (bob.id, MISSING))
    assert existing.status_code == missing.status_code == 403
    assert existing.data == missing.data
    assert existing.get_json()["error"] == {"type": "forbidden"}
    assert stored(app, bob.id) == before


@pytest.mark.parametrize("method", BY_ID)
def test_an_admin_is_told_that_an_id_is_missing(people: People, method: str) -> None:
    response = people.admin().request(method, f"/users/{MISSING}", json=sign_up_body())
    assert (response.status_code, response.get_json()["message"]) == (404, f"user not found: {MISSING}")


def test_an_admin_reads_changes_and_deletes_another(people: People) -> None:
    admin, bob = people.admin(), people.sign_up("bob-the-builder")
    path = f"/users/{bob.id}"
    assert admin.get(path).get_json()["data"] == data("bob-the-builder", bob.id)
    assert admin.patch(path, json={"info": {"age": 20}}).get_json()["data"] == data("bob-the-builder", bob.id, age=20)
    assert bob.get("/users/").get_json()["data"] == data("bob-the-builder", bob.id, age=20, cache=True)
    assert admin.put(path, json=sign_up_body("bobby-shaftoe")).get_json()["data"] == data("bobby-shaftoe", bob.id)
    assert admin.delete(path).get_json()["message"] == f"delete user success: {bob.id}"
    assert bob.get("/users/").status_code == 401


def test_who_deletes_oneself_is_gone(app: Flask, people: People) -> None:
    """R6."""
    alice = people.sign_up("alice-liddell")
    assert alice.delete(f"/users/{alice.id}").get_json() == {
        "code": 200,
        "data": {},
        "message": f"delete user success: {alice.id}",
        "state": 0,
    }
    assert alice.get("/users/").status_code == alice.refresh().status_code == 401
    assert people.admin().get(f"/users/{alice.id}").status_code == 404
    assert people.sign_up("alice-liddell").id != alice.id


def test_the_last_admin_cannot_be_deleted(people: People) -> None:
    """Z5."""
    first, second = people.admin(), people.admin()
    assert second.delete(f"/users/{first.id}").status_code == 200
    response = second.delete(f"/users/{second.id}")
    assert (response.status_code, response.get_json()["error"]["type"]) == (409, "last_admin")
    assert second.get("/users/").status_code == 200


@pytest.mark.parametrize("way", ["sign up", "PUT", "PATCH"])
@pytest.mark.parametrize(
    "taken", ["alice-liddell", "ALICE-Liddell", "ａｌｉｃｅ-liddell", "ａＬＩＣＥ－ｌｉｄｄｅｌｌ"]
)
def test_a_username_is_taken_in_every_spelling(people: People, way: str, taken: str) -> None:
    """I3, N1: by a constraint on the canonical form, never by a collation."""
    people.sign_up("Alice-Liddell")
    bob = people.sign_up("bob-the-builder")
    if way == "sign up":
        response = people.client.post("/api/v1/users/", json=sign_up_body(taken))
    else:
        response = bob.request(way, f"/users/{bob.id}", json=sign_up_body(taken))
    assert (response.status_code, response.get_json()["error"]["type"]) == (409, "username_taken")
    assert list(response.get_json()["error"]["fields"]) == ["username"]
    assert bob.get("/users/").get_json()["data"]["username"] == "bob-the-builder"


def test_ones_own_name_may_be_respelt(people: People) -> None:
    alice = people.sign_up("alice-liddell")
    assert alice.put(f"/users/{alice.id}", json=sign_up_body("Alice-Liddell")).status_code == 200
    assert people.log_in("ALICE-LIDDELL").username == "Alice-Liddell"


def test_names_that_a_collation_takes_for_one_are_two(people: People) -> None:
    """I3: `é` is not `e`, nor `ß` `ss`, on any database."""
    names = ["resume-2024", "résumé-2024", "strasse-27", "straße-27", "ınci-tanesi", "inci-tanesi"]
    assert len({people.sign_up(name).id for name in names}) == len(names)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"info": None},
        {"info": {}},
        {"info": {"age": None, "birth": None}},
        {"username": None, "password": None, "mobile": None, "info": None},
    ],
)
def test_a_patch_leaves_alone_what_is_absent_or_null(app: Flask, people: People, body: dict[str, Any]) -> None:
    alice = people.sign_up("alice-liddell")
    before = stored(app, alice.id)
    response = alice.patch(f"/users/{alice.id}", json=body)
    assert response.get_json()["data"] == data("alice-liddell", alice.id)
    assert stored(app, alice.id) == before


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        ({"username": "queen-of-hearts"}, {"username", "username_key"}),
        ({"password": "off with their heads"}, {"password_hash"}),
        ({"mobile": "13200002222"}, {"mobile_ciphertext", "mobile_index"}),
        ({"info": {"age": 33}}, {"age"}),
        ({"info": {"birth": "1990-05-04 03:02:01", "age": None}}, {"birth"}),
    ],
)
def test_a_patch_changes_just_what_it_names(app: Flask, people: People, body: Any, changed: set[str]) -> None:
    alice = people.sign_up()
    before = stored(app, alice.id)
    assert alice.patch(f"/users/{alice.id}", json=body).status_code == 200
    after = stored(app, alice.id)
    assert {name for name in after if after[name] != before[name]} == changed | {"version", "update_time"}


def test_a_put_takes_the_whole_user(people: People) -> None:
    alice = people.sign_up()
    body = sign_up_body("queen-of-hearts", mobile="13200002222", info={"age": 44, "birth": BIRTH})
    response = alice.put(f"/users/{alice.id}", json=body)
    assert response.get_json()["data"] == data("queen-of-hearts", alice.id, age=44, mobile="13200002222")
    del body["mobile"]
    refused = alice.put(f"/users/{alice.id}", json=body)
    assert refused.get_json()["message"] == "update user fail:{'mobile': ['This field is required.']}"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_the_next_read_shows_the_update(people: People, method: str) -> None:
    """K4: no reader gets the old value after the answer."""
    alice = people.sign_up("alice-liddell")
    for age in range(20, 25):
        body = sign_up_body("alice-liddell", info={"age": age, "birth": BIRTH})
        assert alice.request(method, f"/users/{alice.id}", json=body).status_code == 200
        assert alice.get("/users/").get_json()["data"] == data("alice-liddell", alice.id, age=age, cache=True)


@pytest.mark.stores("sqlite")
def test_an_answer_holds_its_keys_and_no_other(people: People) -> None:
    """Z3."""
    body = sign_up_body("alice-liddell")
    signed_up = people.client.post("/api/v1/users/", json=body)
    logged_in = people.client.post("/api/v1/login", json={name: body[name] for name in ("username", "password")})
    alice = people.log_in("alice-liddell")
    read = alice.get("/users/")
    updates = [alice.request(method, f"/users/{alice.id}", json=body) for method in ("PUT", "PATCH")]
    user, tokens = {"username", "id", "age", "mobile"}, {"access_token", "refresh_token"}
    expected = [user | tokens, user | tokens, user | {"cache"}, user, user]
    assert [set(answer.get_json()["data"]) for answer in (signed_up, logged_in, read, *updates)] == expected, (
        "The tutorial's requests get no new keys: make a new field UNSET where it is NULL, and test it with a user who "
        "has a value (CONTRIBUTING.md, Adding a column)"
    )


def test_thirty_who_want_one_name_at_once_get_one_account(app: Flask) -> None:
    """N1: the database decides, and nobody sees a 5xx."""
    start = threading.Barrier(30)

    def sign_up(number: int) -> int:
        spelling = "White-Rabbit" if number % 2 else "white-rabbit"
        start.wait()
        return app.test_client().post("/api/v1/users/", json=sign_up_body(spelling)).status_code

    with ThreadPoolExecutor(30) as pool:
        assert Counter(pool.map(sign_up, range(30))) == {200: 1, 409: 29}
    with app.app_context():
        assert db.session.scalar(text("SELECT count(*) FROM users")) == 1


def test_a_mobile_number_is_nowhere_in_clear(app: Flask, people: People) -> None:
    """D1: random nonces, so equal numbers are not equal at rest."""
    rows = [stored(app, people.sign_up().id) for _ in range(2)]
    assert all(MOBILE.encode() not in b"".join(v for v in row.values() if isinstance(v, bytes)) for row in rows)
    assert MOBILE not in str(rows)
    assert rows[0]["mobile_ciphertext"] != rows[1]["mobile_ciphertext"]
    assert rows[0]["mobile_ciphertext"][17:] != rows[1]["mobile_ciphertext"][17:]


@pytest.mark.parametrize("fault", ["moved", "bit", "key", "cut", "empty"])
def test_a_ciphertext_that_was_touched_does_not_open(
    app: Flask, people: People, fault: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D1, D4: moved to another row or changed in one bit, it is a 503 that says nothing, and a line in the log."""
    monkeypatch.setattr(logging.getLogger("apps"), "propagate", True)
    admin, alice, bob = people.admin(), people.sign_up(), people.sign_up(mobile="13299998888")
    whole = bytes(stored(app, bob.id)["mobile_ciphertext"])
    touched = {
        "moved": bytes(stored(app, alice.id)["mobile_ciphertext"]),
        "bit": whole[:-1] + bytes([whole[-1] ^ 1]),
        "key": whole[:1] + b"none" + whole[5:],
        "cut": whole[:20],
        "empty": b"",
    }
    store(app, bob.id, mobile_ciphertext=touched[fault])
    response = admin.get(f"/users/{bob.id}")
    assert (response.status_code, response.get_json()["error"]) == (503, {"type": "data_unreadable"})
    assert "cannot be decrypted" in caplog.text
    assert not any(number in response.text + caplog.text for number in (MOBILE, "13299998888"))


def test_an_old_key_still_opens_what_it_closed(app: Flask, people: People) -> None:
    """D3: a new key is put in front, and a number that is written again is closed with it."""
    admin, alice, bob = people.admin(), people.sign_up(), people.sign_up()
    index = stored(app, alice.id)["mobile_index"]
    old = settings(app).FIELD_ENCRYPTION_KEYS
    change_settings(app, FIELD_ENCRYPTION_KEYS=["a-new-field-encryption-key-of-the-suite", *old])
    assert admin.get(f"/users/{alice.id}").get_json()["data"]["mobile"] == MOBILE
    assert alice.patch(f"/users/{alice.id}", json={"mobile": "+86 132 0000 1111"}).status_code == 200
    change_settings(app, FIELD_ENCRYPTION_KEYS=["a-new-field-encryption-key-of-the-suite"])
    assert admin.get(f"/users/{alice.id}").get_json()["data"]["mobile"] == "+86 132 0000 1111"
    assert admin.get(f"/users/{bob.id}").status_code == 503
    assert stored(app, alice.id)["mobile_index"] == index


def test_one_number_has_one_index_however_it_is_written(app: Flask, people: People) -> None:
    """D2: an HMAC over E.164."""
    spellings = [MOBILE, "+86 132 0000 1111", "+8613200001111", "132-0000-1111", "132.0000 1111"]
    rows = [stored(app, people.sign_up(mobile=mobile).id) for mobile in [*spellings, "13200001112"]]
    *indexes, other = [bytes(row["mobile_index"]) for row in rows]
    assert set(indexes) != {other}
    with app.app_context():
        assert set(indexes) == {field_encryption.blind_index(MOBILE)}


def test_times_are_stored_in_utc(app: Flask, people: People) -> None:
    """The clock of the machine, in whatever zone, does not matter; `update_time` follows the changes."""
    noon = datetime(2024, 7, 1, 12, 30, 59, 123456, tzinfo=ZoneInfo("Asia/Shanghai"))
    with time_machine.travel(noon, tick=False):
        alice = people.sign_up()
    row = stored(app, alice.id)
    assert row["photo"] is None
    created = [datetime.fromisoformat(str(row[name])) for name in ("create_time", "update_time")]
    assert created == [noon.astimezone(UTC).replace(tzinfo=None)] * 2
    assert str(row["birth"]).partition(".")[0] == BIRTH
    people.admin().patch(f"/users/{alice.id}", json={"info": {"age": 20}})
    row = stored(app, alice.id)
    assert datetime.fromisoformat(str(row["create_time"])) == created[0]
    now = datetime.now(UTC).replace(tzinfo=None)
    assert abs((datetime.fromisoformat(str(row["update_time"])) - now).total_seconds()) < 60
