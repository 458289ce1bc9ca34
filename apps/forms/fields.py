"""Fields and validators that several forms share. The OpenAPI document is generated from them."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from unicodedata import normalize

from wtforms import Field, Form, StringField
from wtforms.form import BaseForm
from wtforms.validators import Length, NumberRange, StopValidation

from apps.config import settings
from apps.forms.username_reason import explained
from apps.utils import clock, phone, username

BIRTH_FORMAT = "%Y-%m-%d %H:%M:%S"


class JsonForm(Form):
    """A form that is the whole body of a request."""

    action: ClassVar[str]  # begins the message of an invalid body: "<action> fail:{...}"
    example: ClassVar[dict[str, Any]]  # a valid body, for the documentation
    may_be_empty: ClassVar[bool] = False  # True: no body, and `null`, count as `{}`

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


class TextLength(Length):
    """Requires a length in NFC, so that the keyboards of all systems give the same (RFC 8265, 4.2)."""

    def __call__(self, _form: BaseForm, field: StringField) -> None:
        """Check the length. A text that fits as sent is not too long, though NFC makes a few characters longer."""
        text: str = field.data or ""
        is_huge = len(text) > self.max * username.MAXIMUM_EXPANSION  # no decomposition is longer; do not normalise it
        length = len(text) if is_huge else len(normalize("NFC", text))
        if length < self.min or min(length, len(text)) > self.max:
            raise StopValidation(f"Field must be between {self.min} and {self.max} characters long.")


class Format:
    """Requires a string to match `pattern` and to pass `check`. `name` is the format in the OpenAPI document.

    `check` raises `ValueError` with a message of its own. `message` is for a string that does not match; without one
    `check` covers the pattern, which is then for the document only.
    """

    def __init__(
        self,
        name: str,
        pattern: str,
        message: str | None,
        check: Callable[[str], Any],
        document: dict[str, Any],
    ) -> None:
        self.name = name
        self.pattern = pattern
        self.message = message
        self.check = check
        self.document = document  # `description` and `examples`

    def __call__(self, _form: Form, field: Field) -> None:
        """Check the string as it was sent."""
        text: str = (field.raw_data or [""])[0]  # `data` may already be a datetime
        if self.message and not re.fullmatch(self.pattern, text, re.ASCII):
            raise StopValidation(self.message)
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


def _check_mobile(number: str) -> None:
    phone.check(number, settings().PHONE_REGION)


def _check_birth(text: str) -> None:
    try:
        birth = datetime.strptime(text, BIRTH_FORMAT)  # noqa: DTZ007 (compared as a date of UTC)
    except ValueError:
        return  # the field has refused it
    if birth.date() > clock.now().date():
        raise ValueError("Must not be in the future.")


# The OpenAPI pattern of usernames: for Latin names it accepts what `canonical` does, of others also what that refuses.
# Characters that no name contains, characters that count as more than one column, and the rule for the Catalan dot.
_REFUSED = (
    r"\u0000- \u007f-\u00b6\u00b8-\u00bf\u00d7\u00f7\u0132\u0133\u013f\u0140\u0149\u017f\u01c4-\u01cc\u01f1-\u01f3"
    r"\u1e9a\u1e9b\u2000-\u200b\u200e-\u20cf\u20f1-\u2125\u2127-\u2129\u212c-\u2131\u2133-\u214d\u214f-\u2182"
    r"\u2185-\u2bff\u3000\ue000-\uf8ff"
)
_WIDE = (
    r"[\u0130\u0344\u0958-\u095f\u09dc-\u09df\u0a33-\u0a5e\u0b5c\u0b5d\u0f43-\u0fb9\u1100-\u115f\u2e80-\u2fff"
    r"\u3001-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufb4e\uff66-\uff9f]|[^\u0000-\uffff]"
)
_DOT = r"(?!\u00b7|.*[^Ll]\u00b7|.*\u00b7(?![Ll]))"
_USERNAME_PATTERN = (
    rf"^{_DOT}(?:[^{_REFUSED}]{{{username.MINIMUM_WIDTH},{username.MAXIMUM_LENGTH}}}"
    rf"|[^{_REFUSED}]*(?:{_WIDE})[^{_REFUSED}]*)$"
)

PASSWORD_LENGTH = TextLength(8, 128)
USERNAME = Format(
    "username",
    _USERNAME_PATTERN,
    None,
    explained,
    {
        "description": (
            "7 to 64 characters in Unicode's NFC; a Chinese, Japanese or Korean one counts as two of the 7. Letters "
            "and digits of one script, or of scripts that are written together, and ASCII punctuation; no spaces or "
            "symbols."
        ),
        "examples": ["alice-liddell", "Jürgen.Müller", "张三丰的账号"],
    },
)
MOBILE = Format(
    "mobile",
    phone.PATTERN,
    None,
    _check_mobile,
    {
        "description": (
            "A phone number as people write it: 5 to 15 digits with separators, or what libphonenumber reads as a "
            "possible number. Without a country code it belongs to the region of the service."
        ),
        "examples": ["13200001111", "+49 30 123456", "(415) 555-2671"],
    },
)
BIRTH = Format(
    "birth",
    r"^(18|19|20)[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$",
    "Must have the format 2023-08-23 12:30:59.",
    _check_birth,
    {"description": "Date and time of birth in UTC, not after today.", "examples": ["2023-08-23 12:30:59"]},
)
