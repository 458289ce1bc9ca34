"""A body held against a form: exact JSON types first, then the form's validators.

WTForms-JSON alone turns `true` into "True", `["a", "b"]` into "a", and drops nested keys that it does not know.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from wtforms import BooleanField, Form, FormField, IntegerField

from apps.errors import InvalidBody
from apps.forms.fields import JsonForm, MayBeAbsent, OpaqueField
from apps.utils.strict_json import NotStrictJson, parse

F = TypeVar("F", bound=JsonForm)


def read_form(form: type[F], body: bytes) -> F:
    """Return the filled-in form; raise `InvalidBody` with every fault."""
    try:
        values = {} if form.may_be_empty and not body else parse(body)
    except NotStrictJson as error:
        raise InvalidBody(form.action, {"body": [str(error)]}) from None
    return fill(form, values)


def fill(form: type[F], values: dict[str, Any]) -> F:
    """Return the form filled in with JSON values; raise `InvalidBody` with every fault."""
    faults = type_errors(form, values)
    if faults:
        raise InvalidBody(form.action, faults)
    filled = form.from_json(values, skip_unknown_keys=False)
    if not filled.validate():
        raise InvalidBody(form.action, filled.errors)
    return filled


def fields_of(form: type[Form]) -> dict[str, Any]:
    """Return {name: WTForms' unbound field} in the order of the declaration."""
    unbound = {name: getattr(form, name) for name in dir(form) if hasattr(getattr(form, name), "field_class")}
    return dict(sorted(unbound.items(), key=lambda item: item[1].creation_counter))


def is_required(field: Any) -> bool:
    """Whether a body must hold the field; a nested form is needed when one of its fields is."""
    if field.field_class is FormField:
        return any(is_required(nested) for nested in fields_of(field.args[0]).values())
    return not any(isinstance(validator, MayBeAbsent) for validator in field.kwargs["validators"])


def type_errors(form: type[Form], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return {name: [fault]} of unknown and missing keys and of values of another JSON type, nested as the body is."""
    fields = fields_of(form)
    faults: dict[str, Any] = {name: ["Unknown field."] for name in body if name not in fields}
    for name, field in fields.items():
        fault = _type_error(field, body.get(name))
        if fault:
            faults[name] = fault
    return faults


def _type_error(field: Any, value: Any) -> dict[str, Any] | list[str] | None:
    is_form = field.field_class is FormField
    if value is None:
        if not is_required(field):
            return None
        return type_errors(field.args[0], {}) if is_form else ["This field is required."]
    if is_form:
        return type_errors(field.args[0], value) if isinstance(value, dict) else ["Must be an object."]
    if issubclass(field.field_class, IntegerField):
        return None if type(value) is int else ["Must be a whole number."]
    if issubclass(field.field_class, BooleanField):
        return None if isinstance(value, bool) else ["Must be true or false."]
    if not isinstance(value, str):
        return ["Must be a text."]
    is_bad = "\0" in value and not issubclass(field.field_class, OpaqueField)
    return ["Must not hold NUL."] if is_bad else None
