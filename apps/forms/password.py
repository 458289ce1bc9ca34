"""The form of a password change."""

from typing import Any, ClassVar

from wtforms import StringField
from wtforms.validators import InputRequired

from apps.forms.fields import PASSWORD_LENGTH, JsonForm, TextLength


class PasswordForm(JsonForm):
    """`POST /password`."""

    action = "change password"
    example: ClassVar[dict[str, Any]] = {"current_password": "12345678", "new_password": "correct horse battery"}

    current_password = StringField(validators=[InputRequired(), TextLength(1, 128)])
    new_password = StringField(validators=[InputRequired(), PASSWORD_LENGTH])

    def values(self) -> dict[str, Any]:
        """Return the fields as the service takes them."""
        return dict(self.data)
