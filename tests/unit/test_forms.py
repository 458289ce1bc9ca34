"""I2: a form accepts a body as it is, or refuses it; no value is converted."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from unicodedata import normalize

import pytest
from flask import Flask
from wtforms import Field, FormField, StringField
from wtforms.validators import Length

from apps import create_app
from apps.errors import InvalidBody
from apps.forms.binding import fields_of, is_required, read_form
from apps.forms.fields import MOBILE, JsonForm, MayBeAbsent
from apps.forms.login import LoginForm
from apps.forms.password import PasswordForm
from apps.forms.user import PatchForm, SignUpForm, UpdateForm
from apps.utils import clock, phone
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
    """I2: WTForms-JSON raises an error of its own for some of them. Where no field is required, null is `{}`."""
    if body is None and form.may_be_empty:
        assert read_form(form, b"null").data == read_form(form, b"{}").data
    else:
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


REQUIRED_TEXT = ["This field is required."]
ALL_AT_ONCE: list[tuple[type[JsonForm], Any, Any]] = [
    (
        SignUpForm,
        {"username": "abc", "password": "short", "extra": 1, "info": {"age": "18", "birth": "soon", "more": None}},
        {
            "username": ["Username should be longer than 6 characters"],
            "password": ["Field must be between 8 and 128"],
            "mobile": REQUIRED_TEXT,
            "extra": ["Unknown field."],
            "info": {"age": ["Must be an integer."], "birth": ["Not a valid datetime"], "more": ["Unknown field."]},
        },
    ),
    (
        SignUpForm,
        {"mobile": "abc", "info": {"age": 1}},
        {
            "username": REQUIRED_TEXT,
            "password": REQUIRED_TEXT,
            "mobile": ["Must be a phone number"],
            "info": {"age": ["Number must be between 18"], "birth": REQUIRED_TEXT},
        },
    ),
    (
        UpdateForm,
        {"username": ["a"], "password": "12345678\0", "mobile": "12", "info": []},
        {
            "username": ["Must be a string."],
            "password": ["Must not contain NUL"],
            "mobile": ["Must be a phone number"],
            "info": ["Must be an object."],
        },
    ),
    (
        PatchForm,
        {"username": "two words", "mobile": 1, "info": {"age": 200, "birth": 0}},
        {
            "username": ["Must not contain spaces."],
            "mobile": ["Must be a string."],
            "info": {"age": ["Number must be between 18"], "birth": ["Must be a string."]},
        },
    ),
    (LoginForm, {"username": "x" * 65}, {"username": ["Field must be between 1 and 64"], "password": REQUIRED_TEXT}),
]


def beginnings(errors: Any, expected: Any) -> Any:
    """Return `errors` with each text cut to the length of the expected one, if there is one."""
    if isinstance(errors, dict):
        return {name: beginnings(inner, expected.get(name, [])) for name, inner in errors.items()}
    return [errors[0][: len(expected[0])]] if expected else errors


@pytest.mark.parametrize(("form", "body", "expected"), ALL_AT_ONCE)
def test_every_problem_is_named_in_one_answer(form: type[JsonForm], body: Any, expected: Any) -> None:
    """Missing, unknown, of another type and invalid, nested ones too."""
    assert beginnings(faults(form, body), expected) == expected


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


@pytest.mark.parametrize(
    ("password", "is_valid"),
    [
        ("ä" * 128, True),
        ("a\u0308" * 65, True),
        ("a\u0308" * 128, True),
        ("\u1f82" * 128, True),
        (normalize("NFD", "\u1f82" * 128), True),  # four code points each
        (normalize("NFD", "각" * 128), True),
        ("a\u0308" * 129, False),
        ("a" * 129, False),
        ("a\u0308" * 7, False),
        ("a\u0308" * 8, True),
        ("\u0344" * 128, True),  # two code points each in NFC, but it fits as sent
        ("\u0344" * 129, False),
        ("a" * 60_000, False),
    ],
)
def test_lengths_are_those_of_nfc(password: str, is_valid: bool) -> None:
    """P3: the keyboards of all systems give the same."""
    for form, name, body in (
        (SignUpForm, "password", sign_up_body(password=password)),
        (PatchForm, "password", {"password": password}),
        (PasswordForm, "new_password", {"current_password": "x", "new_password": password}),
    ):
        text = json.dumps(body).encode()
        if is_valid:
            assert read_form(form, text).data[name] == password
        else:
            assert list(faults(form, body)) == [name]


def test_a_login_takes_what_a_sign_up_took() -> None:
    """P4."""
    body = {"username": normalize("NFD", "é" * 64), "password": normalize("NFD", "\u1f82" * 128)}
    assert read_form(LoginForm, json.dumps(body).encode()).values() == body
    body = {"username": "é" * 65, "password": "ä" * 129}
    assert list(faults(LoginForm, body)) == ["username", "password"]


@pytest.mark.parametrize(
    ("birth", "is_valid"),
    [
        ("2024-02-29 00:00:00", True),
        ("2024-02-29 23:59:59", True),
        ("2024-02-28 12:00:00", True),
        ("2024-03-01 00:00:00", False),
        ("2099-12-31 23:59:59", False),
    ],
)
@pytest.mark.parametrize("hour", [0, 23])
def test_nobody_is_born_in_the_future(birth: str, is_valid: bool, hour: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """I2: by the date of the service in UTC; today is not the future."""
    monkeypatch.setattr(clock, "now", lambda: datetime(2024, 2, 29, hour, 59, tzinfo=UTC))
    for form in (SignUpForm, UpdateForm, PatchForm):
        body = changed(sign_up_body(), ("info", "birth"), birth)
        if is_valid:
            assert read_form(form, json.dumps(body).encode())
        else:
            assert faults(form, body) == {"info": {"birth": ["Must not be in the future."]}}


NUMBERS = [
    ("CN", "13200001111", "+8613200001111"),
    ("US", "(415) 555-2671", "+14155552671"),
    ("US", "415\u00a0555\u00a02671", "+14155552671"),
    ("US", "(415)\u202f555\u20112671", "+14155552671"),
    ("US", "+1 (415) 555–2671", "+14155552671"),
    ("US", "415−555—2671", "+14155552671"),
    ("US", "1-800-FLOWERS", "+18003569377"),
    ("US", "415-555-2671 ext. 5", "+14155552671"),
    ("US", "011 49 30 1234567", "+49301234567"),
    ("CN", "１３２　００００　１１１１", "+8613200001111"),
    ("CN", "＋８６（１３２）００００－１１１１", "+8613200001111"),
    ("CN", "١٣٢٠٠٠٠١١١١", "+8613200001111"),
    ("CN", "\u202d13200001111\u202c", "+8613200001111"),
    ("CN", " 132/0000/1111 ", "+8613200001111"),
    ("CN", "tel:+86-132-0000-1111", "+8613200001111"),
    ("CN", "132\u223c0000\u223c1111", "+8613200001111"),
    ("CN", "132\u20530000\u20531111", "+8613200001111"),
    ("US", "415-555-2671 extensi\u00f3n 5", "+14155552671"),
    ("RU", "8 (495) 123-45-67 \u0434\u043e\u0431. 5", "+74951234567"),
    ("CN", "0086 132 0000 1111", "+8613200001111"),
    ("DE", "0049 30 1234567", "+49301234567"),
    ("DE", "+49 (0)30 / 123456", "+4930123456"),
    ("JP", "03ー1234ー5678", "+81312345678"),
]


@pytest.mark.parametrize(("region", "number", "e164"), NUMBERS)
def test_a_number_may_be_written_as_people_do(app: Flask, region: str, number: str, e164: str) -> None:
    """D2: the number is kept as sent, and all spellings have one index."""
    change_settings(app, PHONE_REGION=region)
    read = read_form(SignUpForm, json.dumps(sign_up_body(mobile=number)).encode()).values()
    assert read["mobile"] == number
    assert phone.normalise(number, region) == e164
    assert re.fullmatch(MOBILE.pattern, number)


@pytest.mark.parametrize(
    "number",
    ["12345", "123456789012345", "+12345", "1 2 3 4 5", "+86 (132) 0000-1111", "00000", "1( )2( )3( )4( )5"],
)
def test_five_to_fifteen_digits_are_a_number_everywhere(number: str) -> None:
    """Also where libphonenumber has none like it: v1 accepts them."""
    assert read_form(PatchForm, json.dumps({"mobile": number}).encode())


@pytest.mark.parametrize(
    "number",
    [
        *("abc", "hello", "1234", "110", "１１０", "+", "++", "()", "-----", "1234567890123456", "电话13200001111"),
        *("13200001111\n", "132\t00001111", "hello 13200001111", "<b>13200001111</b>", "13200001111; DROP TABLE"),
        *("1" * 60_000, "1 " * 30_000, "１" * 20_000, "(" * 60_000, " " * 60_000, "12345" + " " * 60),
    ],
)
def test_what_is_no_number_is_refused(number: str) -> None:
    (text,) = faults(PatchForm, {"mobile": number})["mobile"]
    assert text.startswith("Must be a phone number" if len(number) <= 64 else "Must be at most 64")


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
