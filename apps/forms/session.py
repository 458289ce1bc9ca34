"""The form of the logout."""

from typing import Any, ClassVar

from wtforms import BooleanField

from apps.forms.fields import JsonForm, MayBeAbsent


class LogoutForm(JsonForm):
    """`POST /logout`."""

    action = "logout"
    example: ClassVar[dict[str, Any]] = {"everywhere": False}
    may_be_empty = True

    everywhere = BooleanField(validators=[MayBeAbsent()])
