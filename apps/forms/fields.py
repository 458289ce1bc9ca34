"""The rules that several forms share, each with what the OpenAPI document says of it."""

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

    action: ClassVar[str]  # what did not happen when the body is refused: "<action> fail:{...}"
    example: ClassVar[dict[str, Any]]  # a body that is accepted, for the documents
    may_be_empty: ClassVar[bool] = False  # whether no body at all is as good as `{}`

    if TYPE_CHECKING:  # WTForms-JSON adds it to every form

        @classmethod
        def from_json(cls, formdata: dict[str, Any], *, skip_unknown_keys: bool) -> Self:
            """Return the form filled with `formdata`."""


class OpaqueField(StringField):
    """A text that is held against others and never stored, so that it may be any at all."""


class MayBeAbsent:
    """Lets a field be missing or null, which leave what is stored alone; an empty text is neither."""

    def __call__(self, _form: Form, field: Field) -> None:
        """Stop here when there is nothing to check."""
        if not field.raw_data or field.raw_data[0] is None:
            field.errors = []
            raise StopValidation


class Format:
    """A text that fits `pattern`, and `check` where a pattern cannot say it all; `name` is its OpenAPI format."""

    def __init__(self, name: str, pattern: str, message: str, check: Callable[[str], Any] | None = None) -> None:
        self.name = name
        self.pattern = pattern
        self.message = message
        self.check = check

    def __call__(self, _form: Form, field: Field) -> None:
        """Hold the text against the format."""
        text: str = (field.raw_data or [""])[0]  # as sent: data may be a datetime by now
        if not re.fullmatch(self.pattern, text, re.ASCII):
            raise StopValidation(self.message)
        if self.check:
            try:
                self.check(text)
            except ValueError as error:
                raise StopValidation(str(error)) from error


class AgeRange:
    """Years from the setting `MINIMUM_AGE`, which is read when it is needed, to 150."""

    max = 150

    @property
    def min(self) -> int:
        """The lower bound."""
        minimum: int = settings().MINIMUM_AGE
        return minimum

    def __call__(self, form: Form, field: Field) -> None:
        """Hold the age against the bounds."""
        NumberRange(self.min, self.max)(form, field)


USERNAME = Format("username", r"^\S+$", "Must hold no spaces, and not be empty.", username.canonical)
MOBILE = Format("mobile", phone.PATTERN, "Must be a telephone number of 5 to 15 digits.")
BIRTH = Format(
    "birth", r"^(18|19|20)[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$", "Must be like 2023-08-23 12:30:59."
)
