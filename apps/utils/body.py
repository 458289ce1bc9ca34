"""Bodies: read once, of the media type that the form asks for, and no larger than `MAX_CONTENT_LENGTH`."""

from flask import request

from apps.errors import BodyTooLarge, UnsupportedMediaType
from apps.forms.fields import JsonForm
from apps.forms.query import UrlEncodedForm, read_urlencoded
from apps.forms.strict import read_form


def read_body(form: type[JsonForm]) -> JsonForm:
    """Return the form filled in from the body. Raises `InvalidBody`, `BodyTooLarge`, `UnsupportedMediaType`."""
    if issubclass(form, UrlEncodedForm):
        _require_media_type("application/x-www-form-urlencoded")
        return read_urlencoded(form, _read())
    if form.may_be_empty and not request.content_length and "Transfer-Encoding" not in request.headers:
        return read_form(form, b"")
    _require_media_type("application/json")
    return read_form(form, _read())


def _require_media_type(media_type: str) -> None:
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype != media_type or charset != "utf-8" or "Content-Encoding" in request.headers:
        raise UnsupportedMediaType


def _read() -> bytes:
    body = request.get_data(cache=False)
    # Werkzeug refuses a length over the limit; a body without a length it cuts off there, without a word.
    if request.content_length is None and len(body) == request.max_content_length:
        raise BodyTooLarge
    return body
