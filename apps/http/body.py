"""Request bodies: read once, and checked for the form's media type and for `MAX_CONTENT_LENGTH`."""

from flask import request

from apps.errors import BodyTooLarge, UnsupportedMediaType
from apps.forms.binding import read_form
from apps.forms.fields import JsonForm
from apps.forms.urlencoded import UrlEncodedForm, read_urlencoded


def read_body(form: type[JsonForm]) -> JsonForm:
    """Return the form filled from the body. Raises `InvalidBody`, `BodyTooLarge` or `UnsupportedMediaType`."""
    if issubclass(form, UrlEncodedForm):
        _require_media_type("application/x-www-form-urlencoded")
        return read_urlencoded(form, _read())
    body = _read() if form.may_be_empty else None  # read first: in HTTP/2, no header says whether a body follows
    if body == b"":
        return read_form(form, b"")
    _require_media_type("application/json")
    return read_form(form, _read() if body is None else body)


def _require_media_type(media_type: str) -> None:
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype != media_type or charset != "utf-8" or "Content-Encoding" in request.headers:
        raise UnsupportedMediaType


def _read() -> bytes:
    limit = request.max_content_length or 0
    request.max_content_length = limit + 1  # Werkzeug silently truncates a body without Content-Length there
    body = request.get_data(cache=False)
    if len(body) > limit:
        raise BodyTooLarge
    return body
