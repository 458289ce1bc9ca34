"""Query strings: the same forms as bodies, filled from text."""

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
    """A form that is the query string of a request; every field may be absent."""

    action = "read query"
    example: ClassVar[dict[str, Any]] = {}


class UrlEncodedForm(JsonForm):
    """A form whose body is application/x-www-form-urlencoded."""


def read_urlencoded(form: type[U], body: bytes) -> U:
    """Return the filled-in form; raise `InvalidBody` with every fault.

    A parameter without a value is as one that was not sent (RFC 6749, 3.1).
    """
    try:
        pairs = parse_qsl(body.decode(), strict_parsing=bool(body), max_num_fields=100)
    except ValueError:
        raise InvalidBody(form.action, {"body": ["The body is not a form."]}) from None
    return fill(form, _texts(form, MultiDict(pairs)))


def read_query(form: type[QueryForm], arguments: "MultiDict[str, str]") -> dict[str, Any]:
    """Return the parameters that were given; raise `InvalidBody` with every fault, one given twice among them."""
    values = _typed(form, _texts(form, arguments))
    fill(form, values)
    return values


def _texts(form: type[JsonForm], arguments: "MultiDict[str, str]") -> dict[str, str]:
    """Return {name: text}; two parsers differ on which of two counts, so none may be given twice."""
    twice = {name: ["Given twice."] for name, texts in arguments.lists() if len(texts) > 1}
    if twice:
        raise InvalidBody(form.action, twice)
    return arguments.to_dict()


def _typed(form: type[QueryForm], arguments: Mapping[str, str]) -> dict[str, Any]:
    """Return the values as JSON would have them; what cannot be one stays text, and is then refused as such."""
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
