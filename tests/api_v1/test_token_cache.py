"""A verified token is not verified again, but everything that can end it is checked on every request."""

from collections.abc import Callable

import pytest
from flask import Flask

from apps.services import token as tokens
from tests.support.forge import REFUSAL, verdict
from tests.support.keys import ALGORITHMS, command, rotate
from tests.support.people import PASSWORD, People, Person, bearer
from tests.support.settings import change_settings

COOKIES = {"JWT_TOKEN_LOCATION": ["headers", "cookies"]}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signature was verified."""
    seen: list[str] = []
    really = tokens.decode_token

    def decode(token: str) -> object:
        seen.append(token)
        return really(token)

    monkeypatch.setattr(tokens, "decode_token", decode)
    return seen


@pytest.mark.stores("sqlite", "postgresql")
def test_a_good_token_is_verified_once(people: People, decoded: list[str]) -> None:
    alice = people.sign_up()
    assert [alice.get("/users/").status_code for _ in range(3)] == [200] * 3
    assert [alice.refresh().status_code for _ in range(3)] == [200] * 3
    assert decoded == [alice.access_token, alice.refresh_token]


@pytest.mark.stores("sqlite")
def test_a_bad_token_is_never_known(people: People, decoded: list[str]) -> None:
    """T1, T6: a forged token is verified each time, and a token of the wrong kind stays refused."""
    alice = people.sign_up()
    forged = alice.access_token[:-4] + "AAAA"
    for token in (forged, alice.refresh_token):
        assert [verdict(alice.get("/users/", token=token)) for _ in range(2)] == [REFUSAL] * 2
    assert decoded == [forged, forged, alice.refresh_token]


ENDS: dict[str, Callable[[Person, Person], object]] = {
    "logout": lambda alice, _: alice.post("/logout"),
    "new password elsewhere": lambda alice, _: (
        People(alice.client)
        .log_in(alice.username)
        .post("/password", json={"current_password": PASSWORD, "new_password": "another " * 3})
    ),
    "block": lambda alice, admin: admin.post(f"/admin/users/{alice.id}/block"),
    "deletion": lambda alice, admin: admin.delete(f"/users/{alice.id}"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_known_token_ends_at_once(people: People, end: Callable[[Person, Person], object]) -> None:
    """R6, Z4: the cache holds a verified signature, not a permission."""
    alice, admin = people.sign_up(), people.admin()
    assert [alice.get("/users/").status_code, alice.refresh().status_code] == [200, 200]
    end(alice, admin)
    assert verdict(alice.get("/users/")) == verdict(alice.refresh()) == REFUSAL


@pytest.mark.stores("sqlite")
def test_a_known_token_does_not_become_fresh(people: People) -> None:
    """R9."""
    alice = people.sign_up()
    stale = alice.refresh().get_json()["data"]["access_token"]
    assert alice.get("/users/", token=stale).status_code == 200
    answers = [alice.delete(f"/users/{alice.id}", token=stale).get_json()["error"]["type"] for _ in range(2)]
    assert answers == ["fresh_token_required"] * 2


@pytest.mark.stores("sqlite", "postgresql")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_known_token_ends_with_the_key_that_signed_it(app: Flask, people: People, algorithm: str) -> None:
    """T12."""
    change_settings(app, JWT_ALGORITHM=algorithm, JWT_KEYS_RELOAD=0.0)
    first = rotate(app)
    alice = people.sign_up()
    assert alice.get("/users/").status_code == 200
    rotate(app)
    bob = people.sign_up()
    assert [alice.get("/users/").status_code, bob.get("/users/").status_code] == [200, 200]
    command(app, "keys", "retire", first, "--force")
    assert verdict(alice.get("/users/")) == REFUSAL
    assert bob.get("/users/").status_code == 200


@pytest.mark.settings(**COOKIES)
@pytest.mark.stores("sqlite")
def test_the_token_of_a_cookie_is_known_and_still_needs_its_proof(people: People, decoded: list[str]) -> None:
    """I8."""
    client = people.client
    body = {"username": "alice-liddell", "password": PASSWORD, "mobile": "13200001111"}
    body |= {"info": {"age": 18, "birth": "2000-01-31 12:30:59"}}
    secure = {"base_url": "https://localhost"}
    assert client.post("/api/v1/users/", json=body, **secure).status_code == 200
    assert [client.get("/api/v1/users/", **secure).status_code for _ in range(2)] == [200] * 2
    assert len(decoded) == 1
    assert client.post("/api/v1/logout", **secure).get_json()["error"]["type"] == "csrf_failed"
    assert client.get("/api/v1/users/", headers=bearer("x.y.z"), **secure).status_code == 401
