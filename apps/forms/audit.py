"""The query of the audit."""

from wtforms import IntegerField
from wtforms.validators import NumberRange

from apps.forms.fields import MayBeAbsent
from apps.forms.urlencoded import LIMIT, QueryForm
from apps.utils.ids import MAX_ID


class AuditQuery(QueryForm):
    """`GET /audit`."""

    limit = IntegerField(validators=LIMIT)
    cursor = IntegerField(validators=[MayBeAbsent(), NumberRange(1, MAX_ID)])
    user_id = IntegerField(validators=[MayBeAbsent(), NumberRange(1, MAX_ID)])
