"""Passwords that attackers try first, or that contain the username."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from apps import create_app
from apps.config import DevConfig, ProdConfig
from apps.security.password_blocklist import is_listed
from apps.services.password import hash_new_password
from tests.support.people import PASSWORD, People, sign_up_body

LONG_ENOUGH = [password for password in FREQUENCY_LISTS["passwords"] if len(password) >= 8]


@pytest.fixture
def switched_on() -> Iterator[Flask]:
    """An application without stores, with the blocklist on."""
    app = create_app("testing", DATABASE_URL="sqlite://", PASSWORD_BLOCKLIST=True)
    with app.app_context():
        yield app


def test_every_listed_password_is_listed_in_any_case(switched_on: Flask) -> None:
    """P5: at least 3,000 listed passwords have an allowed length (ASVS 6.2.4)."""
    assert len(LONG_ENOUGH) >= 3000
    for spelt in (str.lower, str.upper, str.title):
        assert [password for password in LONG_ENOUGH[:1000] if not is_listed(spelt(password), "alice-liddell")] == []


def test_random_passwords_are_accepted(switched_on: Flask) -> None:
    """P5: only the lists refuse a password."""
    for make in (secrets.token_urlsafe, secrets.token_hex):
        assert [password for password in (make(8) for _ in range(200)) if is_listed(password, "alice-liddell")] == []
    assert not is_listed(PASSWORD, "alice-liddell")


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("alice-liddell", "alice-liddell"),
        ("alice-liddell", "ALICE-Liddell"),
        ("Alice-Liddell", "my name is alice-liddell!"),
        ("alice-liddell", "2024alice-liddell"),
        ("ａｌｉｃｅ-liddell", "alice-liddell1"),
        ("alice-liddell", "ａｌｉｃｅ-liddell1"),
        ("jose\u0301-garcia", "jos\u00e9-garcia"),
        ("jos\u00e9-garcia", "jose\u0301-garcia"),
        ("张三丰的账号", "我是张三丰的账号"),
    ],
)
def test_a_password_that_holds_the_username_is_listed(switched_on: Flask, username: str, password: str) -> None:
    """P5: in every spelling of the same name (ASVS 6.2.11)."""
    assert is_listed(password, username)


def test_a_part_of_the_username_is_no_reason(switched_on: Flask) -> None:
    """P5."""
    assert not is_listed("alice in wonderland", "alice-liddell")
    assert not is_listed("battery", "correct-horse-battery")


def test_it_is_on_in_production_alone() -> None:
    """P5: the tutorial's `12345678` still works in `development`."""
    assert (ProdConfig.PASSWORD_BLOCKLIST, DevConfig.PASSWORD_BLOCKLIST) == (True, False)
    with create_app("testing", DATABASE_URL="sqlite://").app_context():
        assert hash_new_password("12345678", "12345678")


def attempts(person: Any, password: str) -> dict[str, Any]:
    """Set a password in every possible way."""
    path = f"/users/{person.id}"
    return {
        "sign-up": person.client.post("/api/v1/users/", json=sign_up_body(password=password)),
        "PUT": person.put(path, json=sign_up_body(person.username, password=password)),
        "PATCH": person.patch(path, json={"password": password}),
    }


@pytest.mark.settings(PASSWORD_BLOCKLIST=True)
@pytest.mark.stores("sqlite")
def test_a_weak_password_is_listed_wherever_one_is_set(people: People) -> None:
    """P5: the old password stays."""
    alice = people.sign_up("alice-liddell")
    for way, answer in attempts(alice, "iloveyou1").items():
        error = answer.get_json().get("error", {})
        assert (answer.status_code, error.get("type")) == (400, "weak_password"), way
        assert list(error["fields"]) == ["password"]
    assert people.log_in("alice-liddell", PASSWORD).id == alice.id


@pytest.mark.settings(PASSWORD_BLOCKLIST=True)
@pytest.mark.stores("sqlite")
def test_the_username_meant_is_the_one_that_the_account_will_have(people: People) -> None:
    """P5: the new username of a PUT, the current one of a PATCH."""
    alice, path = people.sign_up("alice-liddell"), "/users/{}"
    body = sign_up_body("white-rabbit", password="the white-rabbit")
    answers = [
        alice.put(path.format(alice.id), json=body),
        alice.patch(path.format(alice.id), json={"password": "it is alice-liddell"}),
        alice.patch(path.format(alice.id), json={"username": "white-rabbit", "password": "the white-rabbit"}),
        alice.client.post("/api/v1/users/", json=body),
    ]
    assert [answer.get_json()["error"]["type"] for answer in answers] == ["weak_password"] * 4
    assert alice.put(path.format(alice.id), json=body | {"username": "alice-liddell"}).status_code == 200
