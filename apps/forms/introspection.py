"""The form of introspection and revocation, form-encoded as the RFCs require."""

from typing import Any, ClassVar

from wtforms.validators import InputRequired, Length

from apps.forms.fields import MayBeAbsent, OpaqueField
from apps.forms.urlencoded import UrlEncodedForm


class TokenForm(UrlEncodedForm):
    """`POST /introspect` (RFC 7662, 2.1) and `POST /revoke` (RFC 7009, 2.1).

    A string that cannot be a token is valid here: it is a token that is not active (RFC 7662, 2.2; RFC 7009, 2.2).
    """

    action = "read token"
    example: ClassVar[dict[str, Any]] = {"token": "eyJhbGciOiJI..."}

    token = OpaqueField(validators=[InputRequired(), Length(1)])
    token_type_hint = OpaqueField(validators=[MayBeAbsent()])  # accepted and not used
