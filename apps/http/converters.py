"""Converters of path parameters. Each one describes its parameter in the OpenAPI document."""

from typing import Any, ClassVar

from werkzeug.routing import BaseConverter, ValidationError

from apps.utils.ids import MAX_ID


class DocumentedConverter(BaseConverter):
    """A converter whose parameters may appear in the OpenAPI document."""

    schema: ClassVar[dict[str, Any]]  # the JSON Schema of the parameter
    description: ClassVar[str] = "The id of {thing}."  # `thing` is the parameter's name: "a user" for `user_id`


class IdConverter(DocumentedConverter):
    """A positive 64-bit integer in ASCII digits. Werkzeug's `int` also accepts `٣` and 2**63."""

    regex = "[1-9][0-9]{0,18}"
    schema: ClassVar[dict[str, Any]] = {"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_ID}

    def to_python(self, value: str) -> int:
        """Return the number. One above `MAX_ID` does not match the route."""
        number = int(value)
        if number > MAX_ID:
            raise ValidationError
        return number


class SessionIdConverter(DocumentedConverter):
    """The id of a session: 128 bits in hex."""

    regex = "[0-9a-f]{32}"
    schema: ClassVar[dict[str, Any]] = {"type": "string", "pattern": f"^{regex}$"}
