"""Invalid request bodies. Each has a name, which a failing test shows."""

import copy
import gzip
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from wtforms import Form, FormField

from apps.forms.binding import fields_of
from apps.forms.fields import BIRTH_FORMAT, JsonForm
from apps.models import User
from apps.utils import clock, phone
from apps.utils.username import canonical

Json = dict[str, Any]
Path = tuple[str, ...]

# JSON, and almost-JSON, that every field of every form refuses.
RAW_VALUES = (
    *("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "18.0", "1.8e1", "-0", "01", "+1", ".5", "0x12", "1_8"),
    *(str(2**63), str(-(2**63) - 1), str(2**64), "9" * 5000),
    *("true", "false", "tru", "undefined", "'18'", '"unterminated', '"bad \\x escape"', '"line\nbreak"'),
    *('""', '"\\u0000"', '"12345678\\u0000"', '"\\ud800"', '"12345678\\udc00\\ud800"'),
    *("[]", "{}", "[18]", '["12345678"]', '["a", "b"]', '{"a": 1}', "[[]]", "[" * 30 + "]" * 30),
)

# Names of columns and of attributes of Python objects that no form has as a field.
UNKNOWN_NAMES = sorted(
    {column.name for column in User.__table__.columns}
    | {"is_admin", "admin", "roles", "_role", "Username", "username ", "info-age", "info.age", "csrf_token", ""}
    | {"__class__", "__dict__", "__init__", "_sa_instance_state", "__proto__", "constructor", "metadata", "query"}
    | {"data", "errors", "meta", "Meta", "validate", "process", "from_json", "patch_data", "populate_obj", "_fields"}
)

# Headers that declare a valid body as another type, or as compressed.
REFUSED_MEDIA: dict[str, dict[str, str]] = {
    "no content type": {},
    "empty content type": {"Content-Type": ""},
    "text": {"Content-Type": "text/plain"},
    "form": {"Content-Type": "application/x-www-form-urlencoded"},
    "multipart": {"Content-Type": "multipart/form-data; boundary=x"},
    "json of another kind": {"Content-Type": "application/problem+json"},
    "json as text": {"Content-Type": "text/json"},
    "json first of two": {"Content-Type": "application/json, text/plain"},
    "not latin": {"Content-Type": "\xff"},
    "utf-16": {"Content-Type": "application/json; charset=utf-16"},
    "latin-1": {"Content-Type": "application/json; charset=iso-8859-1"},
    "unknown charset": {"Content-Type": "application/json; charset=klingon"},
    "gzip": {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    "gzip by another name": {"Content-Type": "application/json", "Content-Encoding": "identity, x-gzip"},
}

# Larger than 64 kB each.
BOMBS = {
    "100,000 deep": b"[" * 100_000,
    "20,000 objects deep": b'{"a":' * 20_000,
    "10,000 keys": b"{" + b",".join(b'"%d":1' % number for number in range(10_000)) + b"}",
}

# Values that another, more lenient WSGI server might pass on.
ODD_HEADERS: list[dict[str, str]] = [
    *({"User-Agent": agent} for agent in ("", "a\0b", "\xff\x80é" * 400, "' OR 1=1 --", "x" * 100_000)),
    *({"X-Request-ID": name} for name in ("", "\0" * 16, "\xff" * 16, "x" * 100_000, "{}%s")),
    *({"X-Forwarded-For": hops} for hops in ("", ",", "\0", "::1", "\xff, 1.2.3.4", "1," * 10_000)),
    *({"Host": host} for host in ("", "a b", "\xff", "evil.example:99999", "[::1", "../..")),
    *({"Accept": media} for media in ("", "text/html", "*/*;q=nan", "\xff", "application/xml")),
    *({"Cookie": cookie} for cookie in ("=", "\xff=;;", "access_token_cookie=x", "a=" + "b" * 50_000)),
    {"Range": "bytes=5-1"},
    {"If-Match": '"'},
    {"If-None-Match": "*"},
    {"If-Modified-Since": "\xff"},
    {"Expect": "202-nonsense"},
    {"Authorization": ", ,"},
    {"Content-Length": "-5"},
    {"Content-Length": "ten"},
    {"Content-Length": "٣"},
]

# Checks of the formats in the OpenAPI document, beyond their patterns. JSON Schema leaves them to the user (7.2.1).
FORMATS: dict[str, Callable[[str], object]] = {
    "username": canonical,
    "mobile": lambda number: phone.check(number, "CN") is None,
    "birth": lambda birth: datetime.strptime(birth, BIRTH_FORMAT).date() <= clock.now().date(),  # noqa: DTZ007
}


def leaves(form: type[Form]) -> Iterator[Path]:
    """Yield the path of every field of a form, nested forms included."""
    for name, field in fields_of(form).items():
        if field.field_class is FormField:
            yield from ((name, *path) for path in leaves(field.args[0]))
        else:
            yield (name,)


def changed(body: Json, path: Path, value: Any) -> Json:
    """Return a copy of `body` with `value` at `path`."""
    result = inner = copy.deepcopy(body)
    for name in path[:-1]:
        inner = inner.setdefault(name, {})
    inner[path[-1]] = value
    return result


def changed_raw(body: Json, path: Path, text: str) -> bytes:
    """Return `body` as JSON, with `text` unencoded at `path`."""
    return json.dumps(changed(body, path, "@@")).replace('"@@"', text).encode()


def malformed(form: type[JsonForm]) -> dict[str, bytes]:
    """Return the bodies that a route with `form` must answer with 400."""
    return _not_an_object() | _spoilt(json.dumps(form.example)) | _too_much(form.example) | _wrong_values(form)


def unknown_names(form: type[JsonForm]) -> Iterator[tuple[Path, Json]]:
    """Yield the path of each unknown field, and the form's example with that field added."""
    folders: dict[Path, type[Form]] = {(): form}
    folders |= {(name,): field.args[0] for name, field in fields_of(form).items() if field.field_class is FormField}
    for folder, inner in folders.items():
        for name in UNKNOWN_NAMES:
            if name not in fields_of(inner):
                yield (*folder, name), changed(form.example, (*folder, name), "admin")


def _not_an_object() -> dict[str, bytes]:
    texts = ["", " ", "[]", '"x"', "null", "1", "1.5", "true", "NaN", "[{}]", '["username"]', "{", "}", "{}}", "{,}"]
    texts += ["{'a': 1}", "a=b&c=d", "<user/>", "/* */ {}", '{"a"}', '{"a":}', '{"a":1,}', '{"a":1 "b":2}', "{1: 2}"]
    deep = {f"{depth} {a}": (a * depth + b * depth).encode() for depth in (25, 1000, 20_000) for a, b in ("[]",)}
    deep |= {f"{depth} deep objects": b'{"a":' * depth + b"1" + b"}" * depth for depth in (25, 1000, 10_000)}
    deep |= {"opened only": b"[" * 60_000, "closed only": b"]" * 60_000, "closed, then opened": b"]" * 30 + b"[" * 30}
    return {repr(text): text.encode() for text in texts} | deep


def _spoilt(text: str) -> dict[str, bytes]:
    """Return a valid body in invalid encodings."""
    spoilt = {
        "two BOMs": b"\xef\xbb\xbf" * 2 + text.encode(),
        "BOM after": text.encode() + b"\xef\xbb\xbf",
        "UTF-16 BOM": b"\xff\xfe" + text.encode(),
        "twice": (text + text).encode(),
        "comma after": (text + ",").encode(),
        "NUL before": b"\0" + text.encode(),
        "NUL after": text.encode() + b"\0",
        "cut off": text[:-1].encode(),
        "gzip": gzip.compress(text.encode()),
        "latin-1": text.replace("12345678", "12345678é").replace("13200002222", "é").encode("latin-1"),
        "overlong UTF-8": text.replace("1", "@").encode().replace(b"@", b"\xc0\xb1"),
        "surrogate in UTF-8": text.replace("1", "@").encode().replace(b"@", b"\xed\xa0\x80"),
        **{name: text.encode(name) for name in ("utf-16", "utf-16-le", "utf-32")},
    }
    # Some examples have no digit to replace.
    return {name: body for name, body in spoilt.items() if body != text.encode()}


def _too_much(example: Json) -> dict[str, bytes]:
    """Return a valid body with an extra key before the valid ones."""
    rest = json.dumps(example)[1:].encode()
    name = next(iter(example)).encode()
    return {
        "a key twice": b'{"%b": "first",' % name + rest,
        "a key twice, once escaped": b'{"\\u%04x%b": "first",' % (name[0], name[1:]) + rest,
        "an unknown key twice": b'{"a": 1, "a": 1,' + rest,
        "a nested key twice": json.dumps(example | {"info": 1}).replace("1}", '{"age": 18, "age": 19}}').encode(),
        "NUL in a key": b'{"a\\u0000": 1,' + rest,
        "half a pair in a key": b'{"\\ud800": 1,' + rest,
        "a long key": b'{"' + b"k" * 60_000 + b'": 1,' + rest,
        "a deep value": b'{"a": ' + b"[" * 1000 + b"]" * 1000 + b"," + rest,
        "101 keys": b"{" + b"".join(b'"%d": 1,' % number for number in range(101)) + rest,
        "5,000 keys": b"{" + b"".join(b'"%d": 1,' % number for number in range(5000)) + rest,
    }


def _wrong_values(form: type[JsonForm]) -> dict[str, bytes]:
    return {
        f"{'.'.join(path)} = {raw[:40]}": changed_raw(form.example, path, raw)
        for path in leaves(form)
        for raw in RAW_VALUES
    }
