"""What another service sends about a token, form-encoded as the RFCs say."""

from typing import Any, ClassVar

from wtforms.validators import InputRequired, Length

from apps.forms.fields import MayBeAbsent, OpaqueField
from apps.forms.urlencoded import UrlEncodedForm


class TokenForm(UrlEncodedForm):
    """`POST /introspect` (RFC 7662, 2.1) and `POST /revoke` (RFC 7009, 2.1).

    What cannot be a token is no fault: it is one that is not active (RFC 7662, 2.2; RFC 7009, 2.2).
    """

    action = "read token"
    example: ClassVar[dict[str, Any]] = {"token": "eyJhbGciOiJI..."}

    token = OpaqueField(validators=[InputRequired(), Length(1)])
    token_type_hint = OpaqueField(validators=[MayBeAbsent()])  # a hint: not needed to find it
