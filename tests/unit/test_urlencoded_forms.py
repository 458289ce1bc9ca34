"""I2: query strings are checked as strictly as bodies, and numbers consist of ASCII digits."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from flask import Flask
from werkzeug.datastructures import MultiDict
from werkzeug.test import create_environ
from werkzeug.wrappers import Request

from apps import create_app
from apps.errors import InvalidBody
from apps.forms.admin import UserListQuery
from apps.forms.audit import AuditQuery
from apps.forms.introspection import TokenForm
from apps.forms.urlencoded import QueryForm, read_query, read_urlencoded
from apps.utils.ids import MAX_ID


@pytest.fixture(scope="module")
def app() -> Flask:
    return create_app("testing")


@pytest.fixture(autouse=True)
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


def arguments(query: str) -> "MultiDict[str, str]":
    """Return the query string as parsed by a request."""
    return Request(create_environ(query_string=query)).args


def faults(form: type[QueryForm], query: str) -> Any:
    with pytest.raises(InvalidBody) as refused:
        read_query(form, arguments(query))
    assert refused.value.message.startswith("read query fail:")
    return refused.value.fields


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("", {}),
        ("limit=1", {"limit": 1}),
        ("limit=100", {"limit": 100}),
        ("limit=007", {"limit": 7}),
        ("blocked=true", {"blocked": True}),
        ("blocked=false", {"blocked": False}),
        ("username=%25_%5C", {"username": "%_\\"}),
        ("username=" + "a" * 64, {"username": "a" * 64}),
        ("username=%E5%BC%A0", {"username": "张"}),
        ("username=true", {"username": "true"}),
        ("username=1", {"username": "1"}),
        ("mobile=%2B86+132-0000-1111", {"mobile": "+86 132-0000-1111"}),
        ("sort=-create_time&role=admin", {"sort": "-create_time", "role": "admin"}),
        ("cursor=abc=", {"cursor": "abc="}),
    ],
)
def test_what_is_given_is_read_and_nothing_else(query: str, values: dict[str, Any]) -> None:
    assert read_query(UserListQuery, arguments(query)) == values


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "1e3",
        "1.0",
        "+1",
        " 1",
        "1 ",
        "0x1",
        "1_0",
        "٣",
        "３",
        "²",
        "one",
        "null",
        "true",
        "1\0",
        "9" * 20,
        "-1",
    ],
)
def test_a_number_is_ascii_digits(text: str) -> None:
    """F14: int() accepts more than these."""
    assert list(faults(AuditQuery, f"limit={text.replace('+', '%2B')}")) == ["limit"]


@pytest.mark.parametrize(("name", "most"), [("limit", 100), ("cursor", MAX_ID), ("user_id", MAX_ID)])
def test_a_number_has_bounds(name: str, most: int) -> None:
    """The largest id has 19 digits."""
    assert read_query(AuditQuery, arguments(f"{name}=1&")) == {name: 1}
    assert read_query(AuditQuery, arguments(f"{name}={most}")) == {name: most}
    for beyond in (0, most + 1, 10**19 - 1, 10**19, 10**4000):
        assert list(faults(AuditQuery, f"{name}={beyond}")) == [name]


@pytest.mark.parametrize("text", ["", "1", "0", "True", "TRUE", "yes", "on", "null", "true "])
def test_a_yes_or_no_is_true_or_false(text: str) -> None:
    assert faults(UserListQuery, f"blocked={text}") == {"blocked": ["Must be true or false."]}


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("username=", ["username"]),
        ("username=" + "a" * 65, ["username"]),
        ("username=a%00", ["username"]),
        ("mobile=", ["mobile"]),
        ("mobile=1234", ["mobile"]),
        ("mobile=%D9%A1%D9%A3%D9%A2%D9%A0", ["mobile"]),
        ("mobile=13200001111%0A", ["mobile"]),
        ("role=root", ["role"]),
        ("role=", ["role"]),
        ("sort=", ["sort"]),
        ("sort=password_hash", ["sort"]),
        ("sort=--id", ["sort"]),
        ("sort=id%3BDROP TABLE users", ["sort"]),
        ("cursor=", ["cursor"]),
        ("cursor=" + "a" * 513, ["cursor"]),
        ("limit=0&role=x&sort=y", ["limit", "role", "sort"]),
        ("limit=x&blocked=1", ["limit", "blocked"]),
        ("limit=x&limit=2&blocked=1&unknown=1&sort=y", ["blocked", "limit", "sort", "unknown"]),
    ],
)
def test_every_fault_is_named(query: str, fields: list[str]) -> None:
    assert sorted(faults(UserListQuery, query)) == sorted(fields)


@pytest.mark.parametrize(
    "query",
    ["unknown=1", "Limit=1", "limit%00=1", "limit[]=1", "=1", "id=1", "version=1", "password_hash=a", "csrf_token=1"],
)
def test_an_unknown_parameter_is_refused(query: str) -> None:
    """Z2."""
    assert set(*faults(AuditQuery, query).values()) == {"Unknown field."}


@pytest.mark.parametrize("query", ["limit=1&limit=1", "limit=1&limit=2", "limit=&limit=1"])
def test_nothing_is_given_twice(query: str) -> None:
    """Parsers differ on which of two values counts."""
    assert faults(AuditQuery, query) == {"limit": ["Must be given only once."]}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", ["token"]),
        (b"token=", ["token"]),
        (b"token", ["token"]),
        (b"&", ["token"]),
        (b"=a", ["token"]),
        (b"Token=a", ["token"]),
        (b"token%00=a", ["token"]),
        (b"token=a&token=b", ["token"]),
        (b"token=a&token=a", ["token"]),
        (b"token=a&token_type_hint=b&token_type_hint=b", ["token_type_hint"]),
        (b"token=&token_type_hint=b&token_type_hint=c&other=1", ["token", "token_type_hint"]),
        (b'{"token": "a"}', ["token"]),
    ],
)
def test_a_form_encoded_body_is_held_against_its_form_too(body: bytes, fields: list[str]) -> None:
    with pytest.raises(InvalidBody) as refused:
        read_urlencoded(TokenForm, body)
    assert sorted(refused.value.fields) == fields


@pytest.mark.parametrize(
    "more",
    [
        *("", "&", "&&", "&=", "&=1", "&other", "&other=", "&other=1", "&other=1&other=2", "&%8B=", "&%F3=1&%8B=2"),
        *("&\0=1", "&token", "&token=", "&token_type_hint", "&token_type_hint=", "&TOKEN=b", "&" + "a=1&" * 16_000),
    ],
)
def test_an_unknown_parameter_or_one_without_a_value_is_ignored(more: str) -> None:
    """I2: in a form-encoded body (RFC 6749, 3.2)."""
    assert read_urlencoded(TokenForm, f"token=a{more}".encode()).data == {"token": "a", "token_type_hint": None}
    assert read_urlencoded(TokenForm, b"\xf3=1&" + f"{more}&token=a".encode()).data["token"] == "a"


@pytest.mark.parametrize("text", ["a", "1", "true", "a.b-c_d~", "ü", "%00", "a" * 60_000])
def test_a_text_of_a_form_encoded_body_stays_a_text(text: str) -> None:
    """Any string may be sent as a token; one that cannot be a token is not active."""
    assert read_urlencoded(TokenForm, f"token={text}".encode()).data["token"] == unquote(text)


@pytest.mark.parametrize("text", [b"%F3", b"\xf3"])
def test_bytes_that_are_no_utf_8_become_a_replacement_character(text: bytes) -> None:
    """I2: percent-encoded or not."""
    assert read_urlencoded(TokenForm, b"token=" + text).data["token"] == "\ufffd"
