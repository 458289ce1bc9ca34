"""Path parameters."""

from werkzeug.routing import BaseConverter, ValidationError

from apps.utils.ids import MAX_ID


class IdConverter(BaseConverter):
    """An id: ASCII digits from 1 to the largest that a database holds. Werkzeug's own takes `٣` for 3, and 2**63."""

    regex = "[1-9][0-9]{0,18}"

    def to_python(self, value: str) -> int:
        """Return the number; one that is too large is no path of ours."""
        number = int(value)
        if number > MAX_ID:
            raise ValidationError
        return number


class SessionIdConverter(BaseConverter):
    """The id of a session: 128 bits in hex."""

    regex = "[0-9a-f]{32}"
