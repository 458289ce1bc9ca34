"""Request bodies: read once, and checked for the form's media type and for `MAX_CONTENT_LENGTH`."""

from flask import request

from apps.errors import BodyTooLarge, UnsupportedMediaType
from apps.forms.binding import read_form
from apps.forms.fields import JsonForm
from apps.forms.urlencoded import UrlEncodedForm, read_urlencoded

# The names of UTF-8 and of its subset US-ASCII (IANA, WHATWG). `codecs.lookup` would remember unknown ones.
_CHARSETS = {
    *("utf-8", "utf8", "utf_8", "csutf8", "unicode-1-1-utf-8"),
    *("us-ascii", "ascii", "us", "csascii", "iso646-us", "iso-ir-6"),
    *("ansi_x3.4-1968", "ansi_x3.4-1986", "cp367", "ibm367"),
}


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
    codings = {coding.strip().lower() for coding in request.headers.get("Content-Encoding", "").split(",")}
    if request.mimetype != media_type or not _is_utf8() or codings - {"", "identity"}:
        raise UnsupportedMediaType(media_type)


def _is_utf8() -> bool:
    """Return True if the declared charset is UTF-8 or its subset US-ASCII, by one of their names."""
    return request.mimetype_params.get("charset", "utf-8").lower() in _CHARSETS


def _read() -> bytes:
    limit = request.max_content_length or 0
    request.max_content_length = limit + 1  # Werkzeug silently truncates a body without Content-Length there
    body = request.get_data(cache=False)
    if len(body) > limit:
        raise BodyTooLarge
    return body
