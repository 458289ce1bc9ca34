"""The forms of sign-up and of the updates of a user."""

from datetime import UTC
from typing import Any, ClassVar

from wtforms import DateTimeLocalField, Form, FormField, IntegerField, StringField
from wtforms.validators import InputRequired

from apps.forms.fields import (
    BIRTH,
    BIRTH_FORMAT,
    MOBILE,
    PASSWORD_LENGTH,
    USERNAME,
    AgeRange,
    JsonForm,
    MayBeAbsent,
    TextLength,
)
from apps.utils.username import MAXIMUM_LENGTH, canonical, stored

USERNAME_LENGTH = TextLength(4, MAXIMUM_LENGTH)  # for the OpenAPI document: USERNAME has better messages


class InfoForm(Form):
    """The nested part of the body."""

    age = IntegerField(validators=[AgeRange()])  # without InputRequired, which refuses 0
    birth = DateTimeLocalField(format=BIRTH_FORMAT, validators=[InputRequired(), BIRTH])


class UserForm(JsonForm):
    """Base of the forms of a user."""

    def values(self) -> dict[str, Any]:
        """Return the fields as the services take them: flat, and None if absent."""
        return _flat(self.data)


class SignUpForm(UserForm):
    """`POST /users/`."""

    action = "add user"
    example: ClassVar[dict[str, Any]] = {
        "username": "12345678",
        "password": "12345678",
        "mobile": "13200001111",
        "info": {"age": 18, "birth": "2023-08-23 12:30:59"},
    }

    username = StringField(validators=[InputRequired(), USERNAME, USERNAME_LENGTH])
    password = StringField(validators=[InputRequired(), PASSWORD_LENGTH])
    mobile = StringField(validators=[InputRequired(), MOBILE])
    info = FormField(InfoForm)

    def account_key(self) -> str:
        """Return the name by which sign-ups are counted."""
        return canonical(self.data["username"])


class UpdateForm(SignUpForm):
    """`PUT /users/<id>`: the whole user, like sign-up."""

    action = "update user"


class PatchInfoForm(Form):
    """The nested part of the body; every key is optional."""

    age = IntegerField(validators=[MayBeAbsent(), AgeRange()])
    birth = DateTimeLocalField(format=BIRTH_FORMAT, validators=[MayBeAbsent(), BIRTH])


class PatchForm(UserForm):
    """`PATCH /users/<id>`: absent fields keep their value.

    Null clears an optional field and does not change a required one. All fields are required so far.
    """

    action = "update user"
    example: ClassVar[dict[str, Any]] = {"mobile": "13200002222", "info": {"age": 19}}

    username = StringField(validators=[MayBeAbsent(), USERNAME, USERNAME_LENGTH])
    password = StringField(validators=[MayBeAbsent(), PASSWORD_LENGTH])
    mobile = StringField(validators=[MayBeAbsent(), MOBILE])
    info = FormField(PatchInfoForm)

    def values(self) -> dict[str, Any]:
        """Return the fields as the services take them: flat, without the absent ones, and None if null."""
        return _flat(self.patch_data)


def _flat(data: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a body without the nesting, times in UTC."""
    info = data.pop("info", None) or {}
    if data.get("username"):
        data["username"] = stored(data["username"])
    if info.get("birth"):
        info["birth"] = info["birth"].replace(tzinfo=UTC)
    return {**data, **info}
