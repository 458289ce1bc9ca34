"""Security headers, on every answer (OWASP REST Security Cheat Sheet; ASVS 3.4)."""

from flask import Flask, Response

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# What a page of another origin may read besides (CORS).
EXPOSED = ("ETag", "Retry-After", "WWW-Authenticate", "X-Request-ID")


def init_app(app: Flask) -> None:
    """Have every answer of `app` carry the headers that its view did not set itself."""

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response
