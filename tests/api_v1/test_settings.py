"""`GET /settings`: what a client needs before the first call, and nothing else."""

import dataclasses
import json
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from apps import create_app
from apps.api_v1.settings import read_settings
from apps.config import BaseConfig, config, settings
from apps.forms.fields import USERNAME
from apps.http import openapi
from apps.settings.reader import declared
from tests.support.people import People

SHOWN = {  # the settings that the answer is made from
    "JWT_ACCESS_TOKEN_EXPIRES",
    "JWT_REFRESH_TOKEN_EXPIRES",
    "SESSION_LIFETIME",
    "JWT_REFRESH_ROTATION",
    "JWT_TOKEN_LOCATION",
    "JWT_ALGORITHM",
    "MINIMUM_AGE",
    "PHONE_REGION",
    "PASSWORD_BLOCKLIST",
}


def read(**overrides: Any) -> Any:
    """Return `data` of an application without a store: the route needs none."""
    client = create_app("testing", **overrides).test_client()
    response = client.get("/api/v1/settings")
    assert response.status_code == 200
    return response.get_json()["data"]


def test_it_tells_what_a_client_must_know() -> None:
    assert read() == {
        "tokens": {"access_lifetime": 120, "refresh_lifetime": 300, "session_lifetime": 86_400, "rotation": False},
        "username": {
            "minimum_length": 4,
            "maximum_length": 64,
            "pattern": USERNAME.pattern,
            "rule": USERNAME.document["description"],
        },
        "password": {"minimum_length": 8, "maximum_length": 128},
        "profile": {
            "required": ["mobile", "age", "birth"],
            "minimum_age": 18,
            "maximum_age": 150,
            "phone_region": "CN",
        },
        "features": [],
    }


@pytest.mark.parametrize(
    ("overrides", "place", "value"),
    [
        ({"JWT_ACCESS_TOKEN_EXPIRES": timedelta(minutes=15)}, ("tokens", "access_lifetime"), 900),
        ({"JWT_REFRESH_TOKEN_EXPIRES": timedelta(days=30)}, ("tokens", "refresh_lifetime"), 2_592_000),
        ({"SESSION_LIFETIME": timedelta(days=90)}, ("tokens", "session_lifetime"), 7_776_000),
        ({"JWT_REFRESH_ROTATION": True}, ("tokens", "rotation"), True),
        ({"MINIMUM_AGE": 16}, ("profile", "minimum_age"), 16),
        ({"PHONE_REGION": "DE"}, ("profile", "phone_region"), "DE"),
        ({"PASSWORD_BLOCKLIST": True}, ("features",), ["password_blocklist"]),
        ({"JWT_ALGORITHM": "EdDSA"}, ("features",), ["public_keys"]),
        ({"JWT_TOKEN_LOCATION": ["headers", "cookies"]}, ("features",), ["cookies"]),
    ],
)
def test_it_tells_the_settings_of_this_service(overrides: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    found = read(**overrides)
    for name in place:
        found = found[name]
    assert found == value


class Spy:
    """Settings that remember which of them were read."""

    def __init__(self, behind: BaseConfig) -> None:
        self.behind = behind
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.names.add(name)
        return getattr(self.behind, name)


def test_no_other_setting_is_read_and_no_secret_is_in_it() -> None:
    """S3: a new field that shows another setting must be added to SHOWN, by a second pair of eyes."""
    app = create_app("testing")
    spy = Spy(settings(app))
    app.extensions["settings"] = spy
    with app.test_request_context():
        text = read_settings().get_data(as_text=True)
    assert spy.names == SHOWN
    assert not any(setting.secret for name, (_, setting) in declared(BaseConfig).items() if name in SHOWN)
    secrets = [name for name, (_, setting) in declared(BaseConfig).items() if setting.secret]
    for name in secrets:
        value = getattr(config["testing"](), name)
        for secret in value if isinstance(value, tuple) else (value,):
            assert not secret or secret not in text


def test_a_change_of_any_other_setting_changes_nothing() -> None:
    before = read()
    app = create_app("testing")
    others = {field.name: "changed" for field in dataclasses.fields(BaseConfig) if field.name not in SHOWN}
    app.extensions["settings"] = dataclasses.replace(settings(app), **others)
    with app.test_request_context():
        assert json.loads(read_settings().get_data())["data"] == before


def test_it_may_be_cached_by_everybody() -> None:
    """I6."""
    response = create_app("testing").test_client().get("/api/v1/settings")
    assert response.headers["Cache-Control"] == "public, max-age=300"
    assert "Set-Cookie" not in response.headers


@pytest.mark.stores("sqlite")
def test_a_body_without_a_required_field_is_refused(people: People, app: Flask, client: FlaskClient) -> None:
    """A form that a client makes from the answer has the fields that sign-up needs, and no more."""
    required = client.get("/api/v1/settings").get_json()["data"]["profile"]["required"]
    refused = client.post("/api/v1/users/", json={"username": "alice-liddell", "password": "a good password"})
    fields = refused.get_json()["error"]["fields"]
    assert sorted([name for name in fields if name != "info"] + list(fields["info"])) == sorted(required)


def test_its_lengths_are_those_of_the_document() -> None:
    with create_app("testing").app_context():
        properties = openapi.document()["components"]["schemas"]["SignUp"]["properties"]
    answer = read()
    for name in ("username", "password"):
        assert answer[name]["minimum_length"] == properties[name]["minLength"]
        assert answer[name]["maximum_length"] == properties[name]["maxLength"]
    assert answer["username"]["pattern"] == properties["username"]["pattern"]
