"""JSON read strictly: RFC 8259 with the choices that it leaves open made the safe way.

No key twice (4), UTF-8 without a BOM (8.1), and nothing that another parser would read differently or choke on.
"""

import json
import re
from typing import Any, NoReturn

MAX_DEPTH = 20
MAX_KEYS = 100
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_OPENING_AND_CLOSING = re.compile(r"[\[\]{}]")


class NotStrictJson(ValueError):
    """The body is no JSON object, or one that two parsers could read differently."""


def parse(body: bytes) -> dict[str, Any]:
    """Return the object that `body` holds; raise `NotStrictJson` with the reason otherwise."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise NotStrictJson("The body is not UTF-8.") from None
    _check_depth(text)
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_int=_int64)
    except json.JSONDecodeError as error:
        raise NotStrictJson(f"The body is not JSON: {error.msg} at character {error.pos}.") from None
    if not isinstance(value, dict):
        raise NotStrictJson("The body must be a JSON object.")
    _check_unicode(value)
    return value


def _check_unicode(value: dict[str, Any]) -> None:
    """Refuse half of a surrogate pair, which JSON can escape and UTF-8 cannot hold."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise NotStrictJson("The body holds half a surrogate pair.") from None


def _check_depth(text: str) -> None:
    """Refuse deep nesting before the parser meets it: how deep that one can go differs between Python versions."""
    depth = 0
    for bracket in _OPENING_AND_CLOSING.findall(_STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise NotStrictJson(f"The body is nested more than {MAX_DEPTH} deep.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise NotStrictJson("The body names a key twice.")
    if len(result) > MAX_KEYS:
        raise NotStrictJson(f"The body has an object of more than {MAX_KEYS} keys.")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise NotStrictJson(f"The body holds {name}, which is not JSON.")


def _int64(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise NotStrictJson("The body holds an integer beyond 64 bits.")
    return int(digits)
