"""Fill a form from JSON: check the exact JSON types first, then run the form's validators.

WTForms-JSON alone turns `true` into "True" and `["a", "b"]` into "a", and it drops unknown nested keys.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from wtforms import BooleanField, Form, FormField, IntegerField

from apps.errors import InvalidBody
from apps.forms.fields import JsonForm, MayBeAbsent, OpaqueField
from apps.utils.strict_json import NotStrictJson, is_empty, parse

F = TypeVar("F", bound=JsonForm)


def read_form(form: type[F], body: bytes) -> F:
    """Return the form filled from a JSON body. Raises `InvalidBody` with every problem."""
    try:
        values = {} if form.may_be_empty and is_empty(body) else parse(body)
    except NotStrictJson as error:
        raise InvalidBody(form.action, {"body": [str(error)]}) from None
    return fill(form, values)


def fill(form: type[F], values: dict[str, Any], errors: Mapping[str, Any] = MappingProxyType({})) -> F:
    """Return the form filled with JSON values. Raises `InvalidBody` with every problem; `errors` are known already."""
    of_types = {**type_errors(form, values), **errors}
    filled = form.from_json(_without(values, of_types), skip_unknown_keys=False)
    is_valid = filled.validate()
    if of_types or not is_valid:
        raise InvalidBody(form.action, _merged(filled.errors, of_types))
    return filled


def _without(values: dict[str, Any], errors: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` without the fields in `errors`, which validators cannot read."""
    return {
        name: _without(value, errors[name]) if isinstance(errors.get(name), dict) and value else value
        for name, value in values.items()
        if not isinstance(errors.get(name), list)
    }


def _merged(errors: Mapping[str, Any], of_types: Mapping[str, Any]) -> dict[str, Any]:
    """Return both in one. A wrong type hides what a validator says of the field, which it did not get."""
    merged = {**errors, **of_types}
    for name in errors.keys() & of_types.keys():
        if isinstance(errors[name], dict) and isinstance(of_types[name], dict):
            merged[name] = _merged(errors[name], of_types[name])
    return merged


def fields_of(form: type[Form]) -> dict[str, Any]:
    """Return {name: unbound field of WTForms}, in the order of declaration."""
    unbound = {name: getattr(form, name) for name in dir(form) if hasattr(getattr(form, name), "field_class")}
    return dict(sorted(unbound.items(), key=lambda item: item[1].creation_counter))


def is_required(field: Any) -> bool:
    """Return True if a body must have the field. A nested form is required if one of its fields is."""
    if field.field_class is FormField:
        return any(is_required(nested) for nested in fields_of(field.args[0]).values())
    return not any(isinstance(validator, MayBeAbsent) for validator in field.kwargs["validators"])


def type_errors(form: type[Form], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return {name: [error]} for unknown keys, missing keys and wrong JSON types, nested like the body."""
    fields = fields_of(form)
    errors: dict[str, Any] = {name: ["Unknown field."] for name in body if name not in fields}
    for name, field in fields.items():
        error = _type_error(field, body.get(name))
        if error:
            errors[name] = error
    return errors


def _type_error(field: Any, value: Any) -> dict[str, Any] | list[str] | None:
    is_form = field.field_class is FormField
    if value is None:
        if not is_required(field):
            return None
        return type_errors(field.args[0], {}) if is_form else ["This field is required."]
    if is_form:
        return type_errors(field.args[0], value) if isinstance(value, dict) else ["Must be an object."]
    if issubclass(field.field_class, IntegerField):
        return None if type(value) is int else ["Must be an integer."]
    if issubclass(field.field_class, BooleanField):
        return None if isinstance(value, bool) else ["Must be true or false."]
    if not isinstance(value, str):
        return ["Must be a string."]
    is_bad = "\0" in value and not issubclass(field.field_class, OpaqueField)
    return ["Must not contain NUL characters."] if is_bad else None
