"""I2: a form accepts a body as it is, or refuses it; no value is converted."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from wtforms import Field, FormField, StringField
from wtforms.validators import Length

from apps import create_app
from apps.errors import InvalidBody
from apps.forms.binding import fields_of, is_required, read_form
from apps.forms.fields import JsonForm, MayBeAbsent
from apps.forms.login import LoginForm
from apps.forms.user import PatchForm, SignUpForm, UpdateForm
from tests.support.corpus import changed, leaves
from tests.support.people import sign_up_body
from tests.support.settings import change_settings

FORMS = [SignUpForm, UpdateForm, PatchForm, LoginForm]
REQUIRED = {name for name, field in fields_of(SignUpForm).items() if is_required(field)}


@pytest.fixture(scope="module")
def app() -> Flask:
    return create_app("testing")


@pytest.fixture(autouse=True)
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


def faults(form: type[JsonForm], body: Any) -> Any:
    with pytest.raises(InvalidBody) as refused:
        read_form(form, json.dumps(body).encode())
    return refused.value.fields


@pytest.mark.parametrize("form", FORMS)
def test_the_example_of_the_documents_is_accepted(form: type[JsonForm]) -> None:
    assert read_form(form, json.dumps(form.example).encode())


@pytest.mark.parametrize("body", [[], "x", None, 1, True, 1.5])
@pytest.mark.parametrize("form", FORMS)
def test_a_body_that_is_no_object_is_refused(form: type[JsonForm], body: Any) -> None:
    """I2: WTForms-JSON raises an error of its own for some of them."""
    assert faults(form, body) == {"body": ["The body must be a JSON object."]}


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (("password",), {"a": 1}, "Must be a string."),  # would be "{'a': 1}"
        (("password",), ["12345678", "b"], "Must be a string."),  # would be "12345678"
        (("password",), True, "Must be a string."),
        (("password",), 123456789, "Must be a string."),
        (("username",), ["abcdefgh"], "Must be a string."),
        (("mobile",), 13200001111, "Must be a string."),
        (("info", "birth"), 0, "Must be a string."),
        (("info", "age"), "18", "Must be an integer."),
        (("info", "age"), 18.0, "Must be an integer."),
        (("info", "age"), True, "Must be an integer."),
        (("info", "age"), [18], "Must be an integer."),
        (("info",), [], "Must be an object."),
        (("info",), [["age", 18]], "Must be an object."),
        (("info",), "{}", "Must be an object."),
        (("password",), "12345678\0", "Must not contain NUL characters."),
        (("info", "extra"), 1, "Unknown field."),
        (("extra",), None, "Unknown field."),
        (("info-age",), 18, "Unknown field."),  # the name that WTForms gives the nested field
        (("csrf_token",), "x", "Unknown field."),
    ],
)
@pytest.mark.parametrize("form", [SignUpForm, PatchForm])
def test_no_value_becomes_another(form: type[JsonForm], path: tuple[str, ...], value: Any, fault: str) -> None:
    """I2: the type must be the JSON type, and a name a name of the form."""
    expected: Any = [fault]
    for name in reversed(path):
        expected = {name: expected}
    assert faults(form, changed(sign_up_body(), path, value)) == expected


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ({}, REQUIRED),
        ({"info": None}, REQUIRED),
        (sign_up_body(info={}), {"info"}),
        (sign_up_body(mobile=None), {"mobile"}),
    ],
)
def test_every_missing_field_is_named(body: dict[str, Any], missing: set[str]) -> None:
    refused = faults(SignUpForm, body)
    assert set(refused) == missing
    assert refused.get("info", {"age": 0, "birth": 0}).keys() == {"age", "birth"}


@pytest.mark.parametrize("body", [{}, {"info": {}}, {"info": None}, dict.fromkeys(fields_of(PatchForm))])
def test_a_patch_of_nothing_is_a_patch(body: dict[str, Any]) -> None:
    values = read_form(PatchForm, json.dumps(body).encode()).values()
    assert values == dict.fromkeys(name for name in body if name != "info")


class OptionalPatchForm(PatchForm):
    """A form with an optional field, as the recipe for a column in CONTRIBUTING.md has it."""

    motto = StringField(validators=[MayBeAbsent(), Length(1, 64)])


class OptionalUpdateForm(UpdateForm):
    motto = StringField(validators=[MayBeAbsent(), Length(1, 64)])


@pytest.mark.parametrize(("body", "values"), [({}, {}), *(({"motto": v}, {"motto": v}) for v in (None, "Al"))])
def test_a_patch_tells_an_absent_optional_field_from_one_that_is_null(body: Any, values: Any) -> None:
    """Absent keeps the value, null clears it."""
    assert read_form(OptionalPatchForm, json.dumps(body).encode()).values() == values


@pytest.mark.parametrize("body", [{}, {"motto": None}])
def test_a_put_without_an_optional_field_clears_it(body: Any) -> None:
    assert read_form(OptionalUpdateForm, json.dumps(sign_up_body() | body).encode()).values()["motto"] is None


@pytest.mark.parametrize("form", [OptionalPatchForm, OptionalUpdateForm])
def test_an_empty_string_does_not_clear_an_optional_field(form: type[JsonForm]) -> None:
    assert list(faults(form, sign_up_body() | {"motto": ""})) == ["motto"]


@pytest.mark.parametrize("name", ["username", "password", "mobile"])
def test_an_empty_text_is_not_nothing(name: str) -> None:
    """Or a client that clears a field would be told that all went well."""
    assert list(faults(PatchForm, {name: ""})) == [name]


@pytest.mark.parametrize(
    ("username", "fault"),
    [
        ("abc", "longer than 6"),
        ("abcdef", "longer than 6"),
        ("张三丰", "longer than 6"),
        ("x" * 65, "at most 64"),
        ("a b", "not contain spaces"),
        ("", "not be empty"),
    ],
)
def test_a_username_has_one_fault(username: str, fault: str) -> None:
    """Two texts about its length would contradict each other."""
    for body in ({"username": username}, sign_up_body() | {"username": username}):
        form = PatchForm if len(body) == 1 else UpdateForm
        (text,) = faults(form, body)["username"]
        assert fault in text or (form is UpdateForm and text == "This field is required.")


def test_the_values_are_flat_and_the_birth_is_in_utc() -> None:
    values = read_form(SignUpForm, json.dumps(sign_up_body("alice-liddell")).encode()).values()
    assert values["birth"] == datetime(2000, 1, 31, 12, 30, 59, tzinfo=UTC)
    assert values.items() >= {"username": "alice-liddell", "mobile": "13200001111", "age": 18}.items()
    assert set(values) == {path[-1] for path in leaves(SignUpForm)}


@pytest.mark.parametrize("password", [" 12345678 ", "\u212bngström 12", "A\u030angström 12", "ｆｕｌｌ width"])
def test_a_password_is_taken_exactly_as_sent(password: str) -> None:
    """P4: not trimmed, not normalised."""
    assert read_form(SignUpForm, json.dumps(sign_up_body(password=password)).encode()).values()["password"] == password


@pytest.mark.parametrize("minimum", [0, 1, 18, 150])
def test_the_least_age_is_a_setting(app: Flask, minimum: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero is an age: to InputRequired it is nothing."""
    change_settings(app, MINIMUM_AGE=minimum)
    body = changed(sign_up_body(), ("info", "age"), minimum)
    assert read_form(SignUpForm, json.dumps(body).encode()).values()["age"] == minimum
    assert list(faults(SignUpForm, changed(body, ("info", "age"), minimum - 1))) == ["info"]


def test_an_info_is_needed_where_a_field_of_it_is() -> None:
    assert is_required(fields_of(SignUpForm)["info"])
    assert not is_required(fields_of(PatchForm)["info"])


def test_fields_keep_the_order_of_their_declaration() -> None:
    assert list(fields_of(LoginForm)) == ["username", "password"]


def test_another_application_wraps_wtforms_no_deeper() -> None:
    """Every call of `wtforms_json.init()` wraps WTForms once more, and a thousand overflow the stack."""
    before = Field.process, FormField.process
    create_app("testing")
    assert (Field.process, FormField.process) == before
