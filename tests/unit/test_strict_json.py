"""I2: JSON that two parsers could read differently, or fail on, is refused first."""

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.utils.strict_json import MAX_DEPTH, MAX_KEYS, NotStrictJson, parse


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def keys(count: int) -> bytes:
    return json.dumps({str(number): 0 for number in range(count)}).encode()


REFUSED = [
    (b"", "not valid JSON"),
    (b"{", "not valid JSON"),
    (b"{} {}", "not valid JSON"),
    (b"{'a': 1}", "not valid JSON"),
    (b'{"a": 01}', "not valid JSON"),
    (b'{"a": "\x01"}', "not valid JSON"),
    (b"[]", "must be a JSON object"),
    (b'"x"', "must be a JSON object"),
    (b"null", "must be a JSON object"),
    (b"1", "must be a JSON object"),
    (b"true", "must be a JSON object"),
    (b'\xef\xbb\xbf\xef\xbb\xbf{"a": 1}', "not valid JSON"),
    (b'{"a": 1}\xef\xbb\xbf', "not valid JSON"),
    (b'\xff\xfe{"a": 1}', "not UTF-8"),
    ('{"a": 1}'.encode("utf-32"), "not UTF-8"),
    ('{"a": 1}'.encode("utf-16-le"), "not valid JSON"),
    ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    ('{"a": "é"}'.encode("latin-1"), "not UTF-8"),
    (b'{"a": "\xc0\x80"}', "not UTF-8"),
    (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
    (b'{"a": 1, "a": 2}', "a duplicate key"),
    (b'{"a": 1, "\\u0061": 2}', "a duplicate key"),
    (b'{"b": [{"a": 1, "a": 1}]}', "a duplicate key"),
    (b'{"a": NaN}', "NaN"),
    (b'{"a": [-Infinity]}', "-Infinity"),
    (b'{"a": Infinity}', "Infinity"),
    (b'{"a": 9223372036854775808}', "64-bit range"),
    (b'{"a": -9223372036854775809}', "64-bit range"),
    (b'{"a": ' + b"9" * 60_000 + b"}", "64-bit range"),
    (b'{"a": "\\ud800"}', "surrogate"),
    (b'{"a": ["\\udc00\\ud800"]}', "surrogate"),
    (b'{"\\udfff": 1}', "surrogate"),
    (nested(MAX_DEPTH + 1), "nested"),
    (b'{"a": "\\"", "b": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "nested"),
    (b"[" * 60_000, "nested"),
    (b"[" * 30_000 + b"]" * 30_000, "nested"),
    (keys(MAX_KEYS + 1), "more than 100 keys"),
    (b'{"a": ' + keys(MAX_KEYS + 1) + b"}", "more than 100 keys"),
]


@pytest.mark.parametrize(("body", "reason"), REFUSED, ids=[str(body[:30]) for body, _ in REFUSED])
def test_what_is_not_strict_json_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(NotStrictJson, match=reason):
        parse(body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b" {} ", {}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ('{"a": "\ufeff"}'.encode(), {"a": "\ufeff"}),
        (b'{"a": 9223372036854775807}', {"a": 2**63 - 1}),
        (b'{"a": -9223372036854775808}', {"a": -(2**63)}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        (b'{"a": "\\u0000"}', {"a": "\0"}),  # the forms refuse it in each field
        ('{"é": "😀"}'.encode(), {"é": "😀"}),
        (b'{"a": {"b": 1}, "b": {"b": 1}}', {"a": {"b": 1}, "b": {"b": 1}}),
        (b'{"a": "[[[[[[[[[[[[[[[[[[[[[[[[[["}', {"a": "[" * 26}),
        (b'{"a": "\\\\", "b": "{{{{{{{{{{{{{{{{{{{{{{\\"[["}', {"a": "\\", "b": "{" * 22 + '"[['}),
    ],
)
def test_what_is_strict_json_is_read(body: bytes, value: dict[str, Any]) -> None:
    assert parse(body) == value


def test_the_limits_themselves_are_allowed() -> None:
    assert len(parse(keys(MAX_KEYS))) == MAX_KEYS
    assert json.dumps(parse(nested(MAX_DEPTH))).count("{") == MAX_DEPTH


@settings(deadline=None)
@given(st.binary() | st.text().map(str.encode) | st.text('[]{}",:\\u0d8e1-.ntrf ').map(str.encode))
def test_no_bytes_raise_another_error(body: bytes) -> None:
    """I1: any input gives an object or `NotStrictJson`."""
    with suppress(NotStrictJson):
        assert isinstance(parse(body), dict)


scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
texts = st.text(st.characters(codec="utf-8"))
values = st.recursive(scalars | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8)


@settings(deadline=None)
@given(st.dictionaries(texts, values, max_size=5), st.booleans())
def test_every_json_object_comes_back_as_it_was(value: dict[str, Any], ascii_only: bool) -> None:
    """Escaped and unescaped strings are equal (RFC 8259, 8.2)."""
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@pytest.mark.parametrize(
    "body",
    [b'"\\' * 32_000, b'"' * 64_000, b"\\" * 64_000, b'{"a":"' + b"\\\\" * 32_000, b"[]" * 32_000, b"{" * 64_000],
)
def test_no_64_kb_take_long(body: bytes) -> None:
    """I5: linear time. The bound is 50 ms; the test allows twice as much for slow machines."""
    started = time.process_time()
    with pytest.raises(NotStrictJson):
        parse(body)
    assert time.process_time() - started < 0.1
