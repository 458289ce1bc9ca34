"""Cookie mode: tokens in cookies that scripts cannot read, and a double-submit token against CSRF.

`__Host-` cookies come only over TLS and only from this host. The CSRF token is an HMAC of the session id, so it is
useless in another session (OWASP CSRF Cheat Sheet, "signed double submit").
"""

import hmac
from datetime import datetime
from math import ceil

from flask import Response, request

from apps.config import settings
from apps.services.token import Kind, TokenPair
from apps.utils import clock

ACCESS, REFRESH, CSRF = "__Host-access_token", "__Host-refresh_token", "__Host-csrf_token"
CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def is_on() -> bool:
    """Return True if tokens travel in cookies."""
    return "cookies" in settings().JWT_TOKEN_LOCATION


def set_tokens(response: Response, session_id: str, pair: TokenPair) -> None:
    """Set the token cookies and the CSRF cookie, which lives as long as the refresh token.

    With `COOKIE_PERSISTENT`, a cookie expires with its token, else when the browser closes.
    """
    _set(response, ACCESS, pair.access_token, pair.access_end)
    if pair.refresh_token:
        _set(response, REFRESH, pair.refresh_token, pair.refresh_end)
    _set(response, CSRF, csrf_token(session_id), pair.refresh_end, is_hidden=False)
    send_csrf_token(response, session_id)


def send_csrf_token(response: Response, session_id: str) -> None:
    """In cookie mode, send the CSRF token in a header too: a page of another host cannot read the cookie."""
    if is_on():
        response.headers[CSRF_HEADER] = csrf_token(session_id)


def clear_tokens(response: Response) -> Response:
    """In cookie mode, delete the cookies that `set_tokens` sets. Return the response."""
    for name in (ACCESS, REFRESH, CSRF) if is_on() else ():
        response.delete_cookie(name, path="/", secure=True, samesite="Strict")
    return response


def read_token(kind: Kind) -> str | None:
    """Return the token in the request's cookie, or None without one, and always without cookie mode."""
    name = ACCESS if kind == "access" else REFRESH
    return (request.cookies.get(name) or None) if is_on() else None


def csrf_token(session_id: str) -> str:
    """Return the CSRF token of a session. A page must send it back in `CSRF_HEADER`."""
    key = settings().JWT_SECRET_KEY.encode()
    return hmac.digest(key, b"gatehouse csrf " + session_id.encode(), "sha256").hex()


def is_forged(session_id: str) -> bool:
    """Return True if a request with an unsafe method (RFC 9110, 9.2.1) lacks the CSRF token of its session."""
    if request.method in SAFE_METHODS:
        return False
    return not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), csrf_token(session_id).encode())


def _set(response: Response, name: str, value: str, end: datetime, *, is_hidden: bool = True) -> None:
    seconds = ceil((end - clock.now()).total_seconds())
    max_age = max(seconds, 0) if settings().COOKIE_PERSISTENT else None
    response.set_cookie(name, value, max_age, path="/", secure=True, httponly=is_hidden, samesite="Strict")
