"""The JSON Schemas (2020-12) of forms: of a body or a query, and of `error.fields` in an error response."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from wtforms import BooleanField, Field, Form, FormField, IntegerField
from wtforms.validators import AnyOf, Length, NumberRange

from apps.forms.binding import fields_of, is_required
from apps.forms.fields import AgeRange, Format, JsonForm, OpaqueField
from apps.forms.urlencoded import QueryForm, UrlEncodedForm

Json = dict[str, Any]

REF = "#/components/schemas/{name}"
_PROBLEMS = {"$ref": REF.format(name="Problems")}


def form_schema(form: type[Form], nested: Callable[[type[Form]], Json] | None = None) -> Json:
    """Return the schema of a form. `nested` returns the schema of a nested form; by default, it is inlined."""
    fields = fields_of(form)
    return {
        "type": "object",
        "properties": {name: _field_schema(name, field, nested or form_schema) for name, field in fields.items()},
        "required": [name for name, field in fields.items() if is_required(field)],
        "additionalProperties": issubclass(form, UrlEncodedForm),  # it ignores unknown parameters
    }


def name_of(form: type[Form]) -> str:
    """Return the name of a form's component: `SignUp` for `SignUpForm`."""
    return form.__name__.removesuffix("Form").removesuffix("Query")


def reference(form: type[Form]) -> Json:
    """Return a reference to the component of a form."""
    return {"$ref": REF.format(name=name_of(form))}


def body_components(forms: Iterable[type[Form]]) -> Json:
    """Return {name: schema} of the forms and of their nested forms."""
    return {name_of(one): form_schema(one, reference) for form in forms for one in _with_nested(form)}


def fields_reference(form: type[Form] | None) -> Json:
    """Return a reference to the schema of `error.fields`, for a form or for a route without one."""
    return {"$ref": REF.format(name=f"{name_of(form) if form else ''}Fields")}


def fields_components(forms: Iterable[type[Form]]) -> Json:
    """Return {name: schema} of `error.fields` for each form and its nested forms, and the schemas that they share."""
    shared = {
        "Problems": {"type": "array", "items": {"type": "string"}, "description": "What is wrong with one field."},
        "Fields": {"type": "object", "additionalProperties": _PROBLEMS},
    }
    return shared | {f"{name_of(one)}Fields": _fields_schema(one) for form in forms for one in _with_nested(form)}


def _fields_schema(form: type[Form]) -> Json:
    """Return the schema of `error.fields` for a form: a list of problems per field, nested like the body.

    Unknown keys of a body are listed too. They are described by `unevaluatedProperties`: generators turn
    `additionalProperties` into an index signature, which would have to fit the type of every field.
    """
    properties = {name: _problems_schema(field) for name, field in fields_of(form).items()}
    if issubclass(form, JsonForm) and not issubclass(form, QueryForm | UrlEncodedForm):
        properties["body"] = _PROBLEMS  # the body as a whole
    return {"type": "object", "properties": properties, "unevaluatedProperties": _PROBLEMS}


def _problems_schema(field: Any) -> Json:
    return {"anyOf": [fields_reference(field.args[0]), _PROBLEMS]} if field.field_class is FormField else _PROBLEMS


def _with_nested(form: type[Form]) -> Iterator[type[Form]]:
    yield form
    for field in fields_of(form).values():
        if field.field_class is FormField:
            yield from _with_nested(field.args[0])


def _field_schema(name: str, field: Any, nested: Callable[[type[Form]], Json]) -> Json:
    if field.field_class is FormField:
        schema = nested(field.args[0])
        return schema if is_required(field) else {"anyOf": [schema, {"type": "null"}]}
    kind = _kind(field.field_class)
    schema = {"type": kind if is_required(field) else [kind, "null"]}
    if kind == "string" and not issubclass(field.field_class, OpaqueField):
        schema["pattern"] = "^[^\\u0000]*$"
    if name.endswith("password"):
        schema |= {"writeOnly": True}
    for validator in field.kwargs["validators"]:
        schema |= _constraints(validator)
    return schema


def _kind(field_class: type[Field]) -> str:
    if issubclass(field_class, IntegerField):
        return "integer"
    return "boolean" if issubclass(field_class, BooleanField) else "string"


@functools.singledispatch
def _constraints(_validator: Any) -> Json:
    """Return the JSON Schema keywords for the rule of a validator."""
    return {}


@_constraints.register
def _(validator: Length) -> Json:
    upper = {"maxLength": validator.max} if validator.max >= 0 else {}
    return {"minLength": max(validator.min, 1), **upper}


@_constraints.register
def _(validator: AnyOf) -> Json:
    return {"enum": [*validator.values]}


@_constraints.register(NumberRange)
@_constraints.register
def _(validator: AgeRange) -> Json:
    return {"minimum": validator.min, "maximum": validator.max}


@_constraints.register
def _(validator: Format) -> Json:
    return {"format": validator.name, "pattern": validator.pattern, **validator.document}
