"""Fields and validators that several forms share. The OpenAPI document is generated from them."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

from wtforms import Field, Form, StringField
from wtforms.validators import Length, NumberRange, StopValidation

from apps.config import settings
from apps.utils import phone, username

BIRTH_FORMAT = "%Y-%m-%d %H:%M:%S"
PASSWORD_LENGTH = Length(8, 128)


class JsonForm(Form):
    """A form that is the whole body of a request."""

    action: ClassVar[str]  # begins the message of an invalid body: "<action> fail:{...}"
    example: ClassVar[dict[str, Any]]  # a valid body, for the documentation
    may_be_empty: ClassVar[bool] = False  # True: an empty body counts as `{}`

    if TYPE_CHECKING:  # WTForms-JSON adds these to every form
        patch_data: dict[str, Any]  # `data` without the fields that are absent from the body

        @classmethod
        def from_json(cls, formdata: dict[str, Any], *, skip_unknown_keys: bool) -> Self:
            """Return the form filled with `formdata`."""


class OpaqueField(StringField):
    """A string that is only compared, never stored; any characters are allowed."""


class MayBeAbsent:
    """Allows a field to be absent or null. An empty string is neither."""

    def __call__(self, _form: Form, field: Field) -> None:
        """Stop the validation if there is no value."""
        if not field.raw_data or field.raw_data[0] is None:
            field.errors = []
            raise StopValidation


class Format:
    """Requires a string to match `pattern` and to pass `check`. `name` is the format in the OpenAPI document.

    `message` is for a string that does not match; `check` raises `ValueError` with a message of its own.
    """

    def __init__(self, name: str, pattern: str, message: str, check: Callable[[str], Any] | None = None) -> None:
        self.name = name
        self.pattern = pattern
        self.message = message
        self.check = check

    def __call__(self, _form: Form, field: Field) -> None:
        """Check the string as it was sent."""
        text: str = (field.raw_data or [""])[0]  # `data` may already be a datetime
        if not re.fullmatch(self.pattern, text, re.ASCII):
            raise StopValidation(self.message)
        if self.check:
            try:
                self.check(text)
            except ValueError as error:
                raise StopValidation(str(error)) from error


class AgeRange:
    """Requires an age from the setting `MINIMUM_AGE`, read at validation, to 150 years."""

    max = 150

    @property
    def min(self) -> int:
        """The lower bound."""
        minimum: int = settings().MINIMUM_AGE
        return minimum

    def __call__(self, form: Form, field: Field) -> None:
        """Check the age."""
        NumberRange(self.min, self.max)(form, field)


USERNAME = Format("username", r"^\S+$", "Must not be empty and must not contain spaces.", username.canonical)
MOBILE = Format("mobile", phone.PATTERN, "Must be a phone number of 5 to 15 digits.")
BIRTH = Format(
    "birth",
    r"^(18|19|20)[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$",
    "Must have the format 2023-08-23 12:30:59.",
)
