"""Forms of the admin routes."""

from typing import Any, ClassVar

from wtforms import BooleanField, IntegerField, StringField
from wtforms.validators import AnyOf, InputRequired

from apps.forms.fields import MOBILE, JsonForm, MayBeAbsent, TextLength
from apps.forms.urlencoded import CURSOR, LIMIT, QueryForm

ROLES = ("user", "admin")
SORTS = ("id", "-id", "username", "-username", "create_time", "-create_time")


class UserListQuery(QueryForm):
    """`GET /admin/users`."""

    username = StringField(validators=[MayBeAbsent(), TextLength(1, 64)])
    mobile = StringField(validators=[MayBeAbsent(), MOBILE])
    role = StringField(validators=[MayBeAbsent(), AnyOf(ROLES)])
    blocked = BooleanField(validators=[MayBeAbsent()])
    sort = StringField(validators=[MayBeAbsent(), AnyOf(SORTS)])
    limit = IntegerField(validators=LIMIT)
    cursor = StringField(validators=CURSOR)


class RoleForm(JsonForm):
    """`PUT /admin/users/<id>/role`."""

    action = "change role"
    example: ClassVar[dict[str, Any]] = {"role": "admin"}

    role = StringField(validators=[InputRequired(), AnyOf(ROLES)])
