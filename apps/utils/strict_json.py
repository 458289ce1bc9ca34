"""A strict JSON parser: RFC 8259, with the safe choice wherever the RFC leaves one open.

It refuses duplicate keys (4), anything but UTF-8 (8.1), and input that another parser would read
differently or fail on.
"""

import json
import re
from typing import Any, NoReturn

MAX_DEPTH = 20
MAX_KEYS = 100
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_OPENING_AND_CLOSING = re.compile(r"[\[\]{}]")


class NotStrictJson(ValueError):
    """The body is not a JSON object, or parsers may read it differently: duplicate keys, NaN, huge integers."""


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`. Raises `NotStrictJson` with the reason."""
    try:
        text = body.decode("utf-8-sig")  # a BOM is ignored, as the RFC permits
    except UnicodeDecodeError:
        raise NotStrictJson("The body is not UTF-8.") from None
    _check_depth(text)
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_int=_int64)
    except json.JSONDecodeError as error:
        raise NotStrictJson(f"The body is not valid JSON: {error.msg} at character {error.pos}.") from None
    if not isinstance(value, dict):
        raise NotStrictJson("The body must be a JSON object.")
    _check_unicode(value)
    return value


def is_empty(body: bytes) -> bool:
    """Return True if `body` holds nothing, or only `null`, which clients send for "no body"."""
    return body.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n") in (b"", b"null")


def _check_unicode(value: dict[str, Any]) -> None:
    """Refuse an unpaired surrogate, which JSON can escape but UTF-8 cannot encode."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise NotStrictJson("The body contains an unpaired surrogate.") from None


def _check_depth(text: str) -> None:
    """Refuse deep nesting before parsing, because the parser's own limit differs between Python versions."""
    depth = 0
    for bracket in _OPENING_AND_CLOSING.findall(_STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise NotStrictJson(f"The body is nested more than {MAX_DEPTH} levels deep.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise NotStrictJson("The body contains a duplicate key.")
    if len(result) > MAX_KEYS:
        raise NotStrictJson(f"The body contains an object with more than {MAX_KEYS} keys.")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise NotStrictJson(f"The body contains {name}, which is not valid JSON.")


def _int64(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise NotStrictJson("The body contains an integer outside the 64-bit range.")
    return int(digits)
