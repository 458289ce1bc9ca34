"""Sign-up and update of a user."""

from datetime import UTC
from typing import Any, ClassVar

from wtforms import DateTimeLocalField, Form, FormField, IntegerField, StringField
from wtforms.validators import InputRequired, Length

from apps.forms.fields import BIRTH, BIRTH_FORMAT, MOBILE, PASSWORD_LENGTH, USERNAME, AgeRange, JsonForm, MayBeAbsent
from apps.utils.username import MAXIMUM_LENGTH, canonical

USERNAME_LENGTH = Length(4, MAXIMUM_LENGTH)  # for the documents: USERNAME before it knows that, and says it better


class InfoForm(Form):
    """The nested part of the body."""

    age = IntegerField(validators=[AgeRange()])  # not InputRequired, for which 0 is nothing
    birth = DateTimeLocalField(format=BIRTH_FORMAT, validators=[InputRequired(), BIRTH])


class UserForm(JsonForm):
    """What the forms of this file have in common."""

    def values(self) -> dict[str, Any]:
        """Return the fields, flat, as the services take them; None is what was left out."""
        data = self.data
        info = data.pop("info")
        birth = info["birth"]
        return {**data, "age": info["age"], "birth": birth and birth.replace(tzinfo=UTC)}


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
        """Return the name that sign-ups are counted by."""
        return canonical(self.data["username"])


class UpdateForm(SignUpForm):
    """`PUT /users/<id>`: the whole user, as at sign-up."""

    action = "update user"


class PatchInfoForm(Form):
    """The nested part, in which each key may be absent."""

    age = IntegerField(validators=[MayBeAbsent(), AgeRange()])
    birth = DateTimeLocalField(format=BIRTH_FORMAT, validators=[MayBeAbsent(), BIRTH])


class PatchForm(UserForm):
    """`PATCH /users/<id>`: what is absent or null stays as it is."""

    action = "update user"
    example: ClassVar[dict[str, Any]] = {"mobile": "13200002222", "info": {"age": 19}}

    username = StringField(validators=[MayBeAbsent(), USERNAME, USERNAME_LENGTH])
    password = StringField(validators=[MayBeAbsent(), PASSWORD_LENGTH])
    mobile = StringField(validators=[MayBeAbsent(), MOBILE])
    info = FormField(PatchInfoForm)
