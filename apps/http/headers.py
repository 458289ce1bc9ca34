"""The security headers of every response (OWASP REST Security Cheat Sheet; ASVS 3.4)."""

from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# Further response headers that a page of another origin may read (CORS); in cookie mode also the CSRF token.
EXPOSED = ("ETag", "Retry-After", "WWW-Authenticate", "X-Request-ID")

_DEFAULTS = [(name.lower(), (name, value)) for name, value in HEADERS.items()]


def with_headers(application: WSGIApplication) -> WSGIApplication:
    """Wrap `application`: every response gets these headers, unless its view has set them."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            given = {name.lower() for name, _ in headers}
            headers += [header for name, header in _DEFAULTS if name not in given]
            return start_response(status, headers, exc_info)

        return application(environ, start)

    return serve
