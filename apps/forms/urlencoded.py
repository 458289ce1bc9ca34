"""Query strings and form-encoded bodies. They use the form classes of JSON bodies; strings become the fields' types."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar
from urllib.parse import parse_qsl

from werkzeug.datastructures import MultiDict
from wtforms import BooleanField, IntegerField, StringField
from wtforms.validators import Length, NumberRange

from apps.errors import InvalidBody
from apps.forms.binding import fields_of, fill
from apps.forms.fields import JsonForm, MayBeAbsent

U = TypeVar("U", bound="UrlEncodedForm")

_BOOLEANS = {"true": True, "false": False}


class QueryForm(JsonForm):
    """A form that is the query string of a request. Every field is optional."""

    action = "read query"
    example: ClassVar[dict[str, Any]] = {}


class UrlEncodedForm(JsonForm):
    """A form whose body is application/x-www-form-urlencoded."""


def read_urlencoded(form: type[U], body: bytes) -> U:
    """Return an instance of `form` filled from an application/x-www-form-urlencoded body.

    A parameter without a value (`a=`) counts as absent (RFC 6749, 3.1). Raises one `InvalidBody` with every problem, a
    repeated parameter included.
    """
    try:
        pairs = parse_qsl(body.decode(), strict_parsing=bool(body), max_num_fields=100)
    except ValueError:
        raise InvalidBody(form.action, {"body": ["The body is not valid form data."]}) from None
    arguments = MultiDict(pairs)
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
