"""What another service sends about a token, form-encoded as the RFCs say."""

from typing import Any, ClassVar

from wtforms import StringField
from wtforms.validators import InputRequired, Length

from apps.forms.fields import MayBeAbsent
from apps.forms.query import UrlEncodedForm


class TokenForm(UrlEncodedForm):
    """`POST /introspect` (RFC 7662, 2.1) and `POST /revoke` (RFC 7009, 2.1)."""

    action = "read token"
    example: ClassVar[dict[str, Any]] = {"token": "eyJhbGciOiJI..."}

    token = StringField(validators=[InputRequired(), Length(1, 8192)])
    token_type_hint = StringField(validators=[MayBeAbsent(), Length(1, 64)])  # a hint: not needed to find it
