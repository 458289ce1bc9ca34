"""Query strings and form-encoded bodies. They use the form classes of JSON bodies; strings become the fields' types."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar
from urllib.parse import parse_qsl

from werkzeug.datastructures import MultiDict
from wtforms import BooleanField, IntegerField, StringField
from wtforms.validators import Length, NumberRange

from apps.forms.binding import fields_of, fill
from apps.forms.fields import JsonForm, MayBeAbsent

U = TypeVar("U", bound="UrlEncodedForm")

_BOOLEANS = {"true": True, "false": False}


class QueryForm(JsonForm):
    """A form that is the query string of a request. Every field is optional."""

    action = "read query"
    example: ClassVar[dict[str, Any]] = {}


class UrlEncodedForm(JsonForm):
    """A form whose body is application/x-www-form-urlencoded, as RFC 6749, 3.2, describes its parameters."""


def read_urlencoded(form: type[U], body: bytes) -> U:
    """Return an instance of `form` filled from an application/x-www-form-urlencoded body.

    A parameter without a value (`a=`, `a`) counts as absent, and an unknown parameter is ignored (RFC 6749, 3.2). Bytes
    that are not UTF-8 become U+FFFD. Raises one `InvalidBody` with every problem, a repeated parameter included.
    """
    fields = fields_of(form)
    pairs = parse_qsl(body.decode(errors="replace"))  # omits parameters without a value
    arguments = MultiDict((name, value) for name, value in pairs if name in fields)
    return fill(form, arguments.to_dict(), _repeated(arguments))


def read_query(form: type[QueryForm], arguments: "MultiDict[str, str]") -> dict[str, Any]:
    """Return the parameters that were sent. Raises `InvalidBody` with every problem."""
    values = _typed(form, arguments.to_dict())
    fill(form, values, _repeated(arguments))
    return values


def _repeated(arguments: "MultiDict[str, str]") -> dict[str, list[str]]:
    """Return the errors of repeated parameters: parsers differ on which of two values counts."""
    return {name: ["Must be given only once."] for name, values in arguments.lists() if len(values) > 1}


def _typed(form: type[QueryForm], arguments: Mapping[str, str]) -> dict[str, Any]:
    """Convert integers and booleans to JSON values. Anything else stays a string, which `fill` then refuses."""
    fields = fields_of(form)
    values: dict[str, Any] = {}
    for name, text in arguments.items():
        field_class = fields[name].field_class if name in fields else StringField
        if issubclass(field_class, IntegerField) and text.isascii() and text.isdecimal() and len(text) < 20:
            values[name] = int(text)
        elif issubclass(field_class, BooleanField):
            values[name] = _BOOLEANS.get(text, text)
        else:
            values[name] = text
    return values


LIMIT = (MayBeAbsent(), NumberRange(1, 100))
CURSOR = (MayBeAbsent(), Length(1, 512))
