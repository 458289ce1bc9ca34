"""The form of the login."""

from typing import Any, ClassVar

from wtforms import StringField
from wtforms.validators import InputRequired

from apps.forms.fields import JsonForm, TextLength
from apps.utils import username


class LoginForm(JsonForm):
    """`POST /login`. It checks less than sign-up: an invalid username is merely a wrong one."""

    action = "login"
    example: ClassVar[dict[str, Any]] = {"username": "12345678", "password": "12345678"}

    username = StringField(validators=[InputRequired(), TextLength(1, 64)])
    password = StringField(validators=[InputRequired(), TextLength(1, 128)])

    def values(self) -> dict[str, Any]:
        """Return the fields as the service takes them."""
        return {"username": self.username.data, "password": self.password.data}

    def account_key(self) -> str:
        """Return the name by which attempts are counted."""
        return username.lookup_key(self.values()["username"])
