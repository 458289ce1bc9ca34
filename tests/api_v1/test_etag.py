"""ETag and If-Match on users: no client overwrites a version that it has not read (RFC 9110, 13.1.1)."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from apps.extensions import db
from apps.models import User
from tests.support.people import BIRTH, PASSWORD, People, Person, bearer

STALE = (412, "stale_version")
ACTS: dict[str, dict[str, Any]] = {
    "PUT": {
        "username": "alice-liddell",
        "password": PASSWORD,
        "mobile": "13200001111",
        "info": {"age": 44, "birth": BIRTH},
    },
    "PATCH": {"info": {"age": 44}},
    "DELETE": {},
}


def told(response: TestResponse) -> tuple[int, str | None]:
    return response.status_code, response.get_json().get("error", {}).get("type")


def etag_of(person: Person) -> str:
    return person.get("/users/").headers["ETag"]


def change(person: Person, method: str, if_match: str | None) -> TestResponse:
    headers = {} if if_match is None else {"If-Match": if_match}
    body = {"json": ACTS[method]} if ACTS[method] else {}
    return person.request(method, f"/users/{person.id}", headers=headers, **body)


def stored(app: Flask, person: Person) -> User | None:
    with app.app_context():
        return db.session.get(User, person.id)


def is_done(app: Flask, person: Person, method: str) -> bool:
    """Return True if the change is in the database."""
    user = stored(app, person)
    return user is None if method == "DELETE" else bool(user and user.age == 44)


def test_every_answer_with_a_user_names_its_version(people: People) -> None:
    """N2: one strong ETag per version, cached or not, read or written, for the user and for an admin."""
    alice, admin = people.sign_up("alice-liddell"), people.admin()
    path = f"/users/{alice.id}"
    read = [alice.get("/users/"), alice.get(path), admin.get(path), admin.get(f"/admin/users/{alice.id}")]
    same = alice.patch(path, json={"info": {"age": 18}})
    before = {response.headers["ETag"] for response in [*read, same]}
    changed = alice.patch(path, json=ACTS["PATCH"])
    replaced = alice.put(path, json=ACTS["PUT"])
    after = {response.headers["ETag"] for response in (changed, replaced, alice.get("/users/"))}
    assert len(before) == len(after) == 1
    assert before != after
    assert all(tag.startswith('"') and tag.endswith('"') for tag in before | after)


@pytest.mark.parametrize("method", ACTS)
def test_a_stale_if_match_is_refused(app: Flask, people: People, method: str) -> None:
    """N2: a change that the client has not seen is not lost."""
    alice = people.sign_up("alice-liddell")
    read = etag_of(alice)
    alice.patch(f"/users/{alice.id}", json={"info": {"age": 33}})
    assert told(change(alice, method, read)) == STALE
    user = stored(app, alice)
    assert user
    assert user.age == 33


TAGS = {
    "the current one": "{current}",
    "one of several": '"0", {current}',
    "weak": "W/{current}",
    "weak, in small letters": "w/{current}",
    "weak, one of several": '"0", W/{current}, W/"1000"',
    "weak, without spaces": 'W/"0",W/{current}',
    "with a coding, of Apache or Caddy": '"{bare}-gzip"',
    "weak, with a coding": 'W/"{bare}-br"',
    "with a coding after two hyphens": '"0", "{bare}--gzip"',
    "strong among weak": 'W/"0", {current}',
}


@pytest.mark.parametrize("if_match", [*TAGS, "*", None])
@pytest.mark.parametrize("method", ACTS)
@pytest.mark.stores("sqlite", "mariadb")
def test_a_current_a_universal_and_no_if_match_pass(
    app: Flask, people: People, method: str, if_match: str | None
) -> None:
    """N2: without If-Match the last write wins, as in the tutorial.

    A weak tag is what nginx makes of the ETag when it compresses; Apache and Caddy add the name of the coding.
    """
    alice = people.sign_up("alice-liddell")
    current = etag_of(alice)
    sent = TAGS[if_match].format(current=current, bare=current.strip('"')) if if_match in TAGS else if_match
    assert told(change(alice, method, sent)) == (200, None)
    assert is_done(app, alice, method)


NO_MATCH = {
    "a weak one of another version": 'W/"0"',
    "one of another version with a coding": '"0-gzip"',
    "one with another end": '"{bare}-x"',
    "several weak ones": 'W/"0", W/"00{bare}"',
    "a weak star": 'W/"*"',
    "with zeros": '"00{bare}"',
    "signed": '"+{bare}"',
    "spaced": '" {bare} "',
    "another": '"0"',
    "a word": '"current"',
    "empty": '""',
    "nothing": "",
    "a comma": ",",
    "no quotation marks": "{bare}0",
    "a quoted star": '"*"',
    "a large number": '"99999999999999999999"',
    "a number that Python does not read": f'"{"9" * 5000}"',
    "not ASCII": '"\xb2"',
    "many": ", ".join(f'"{number}"' for number in range(1000, 1500)),
}


@pytest.mark.parametrize("if_match", NO_MATCH.values(), ids=NO_MATCH)
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.stores("sqlite")
def test_what_is_not_the_current_tag_to_the_byte_does_not_match(
    app: Flask, people: People, method: str, if_match: str
) -> None:
    """N2, I1."""
    alice = people.sign_up("alice-liddell")
    current = etag_of(alice)
    sent = if_match.format(current=current, bare=current.strip('"'))
    assert told(change(alice, method, sent)) == STALE
    assert not is_done(app, alice, method)


@pytest.mark.stores("sqlite")
def test_a_stale_if_match_tells_nothing_of_another_account(people: People) -> None:
    """N2, Z1: the permission is checked before the version."""
    alice, bob = people.sign_up("alice-liddell"), people.sign_up("bob-the-builder")
    answers = [
        alice.patch(f"/users/{user_id}", json=ACTS["PATCH"], headers={"If-Match": '"0"'})
        for user_id in (bob.id, bob.id + 1000)
    ]
    assert [told(answer) for answer in answers] == [(403, "forbidden")] * 2


def test_of_twenty_parallel_changes_of_one_version_one_is_made(app: Flask, people: People) -> None:
    """N2: the others get 412."""
    alice = people.sign_up("alice-liddell")
    headers = bearer(alice.access_token) | {"If-Match": etag_of(alice)}
    barrier = Barrier(20)

    def patch(age: int) -> tuple[int, int]:
        client = app.test_client()
        barrier.wait()
        response = client.patch(f"/api/v1/users/{alice.id}", json={"info": {"age": age}}, headers=headers)
        return response.status_code, age

    with ThreadPoolExecutor(20) as pool:
        answers = sorted(pool.map(patch, range(30, 50)))
    assert [status for status, _ in answers] == [200] + [412] * 19
    user = stored(app, alice)
    assert user
    assert user.age == answers[0][1]


def test_an_etag_of_before_a_change_by_another_path_is_stale(people: People) -> None:
    """N2: a new password makes a new version as well."""
    alice = people.sign_up("alice-liddell")
    read = etag_of(alice)
    alice.post("/password", json={"current_password": PASSWORD, "new_password": PASSWORD + "!"})
    assert etag_of(alice) != read
    assert told(change(alice, "PATCH", read)) == STALE
