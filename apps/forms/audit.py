"""Which events to list."""

from wtforms import IntegerField
from wtforms.validators import NumberRange

from apps.forms.fields import MayBeAbsent
from apps.forms.urlencoded import LIMIT, QueryForm
from apps.http.converters import MOST


class AuditQuery(QueryForm):
    """`GET /audit`."""

    limit = IntegerField(validators=LIMIT)
    cursor = IntegerField(validators=[MayBeAbsent(), NumberRange(1, MOST)])
    user_id = IntegerField(validators=[MayBeAbsent(), NumberRange(1, MOST)])
