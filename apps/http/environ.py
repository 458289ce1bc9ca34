"""Convert the ASGI scope of a request into a WSGI environment (PEP 3333)."""

import sys
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIEnvironment

from apps.http.received_body import ReceivedBody, Scope

_PROTOCOLS = {"1": "HTTP/1.0", "1.0": "HTTP/1.0", "1.1": "HTTP/1.1", "2": "HTTP/2"}
_CONSTANT = {
    "SCRIPT_NAME": "",
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,  # Werkzeug reads a body without Content-Length only if its end is known
}


def environ_of(scope: Scope, body: ReceivedBody) -> WSGIEnvironment:
    """Return the WSGI environment. Bytes over 127 in the path and in headers are decoded as Latin-1 (PEP 3333)."""
    path: bytes = scope["raw_path"]
    server, client = scope["server"], scope["client"]
    return {
        **_CONSTANT,
        **_headers(scope["headers"]),
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": _PROTOCOLS.get(scope["http_version"], "HTTP/1.1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": server[1],
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": client[1],
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body.stream,
    }


def _headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers as CGI variables. Repeated ones are joined (RFC 9110, 5.2; for cookies RFC 6265, 5.4).

    A name with an underscore is dropped: `X_Forwarded_For` would become the variable of `X-Forwarded-For`.
    """
    variables: dict[str, str] = {}
    for name, value in headers:
        key, text = _variable(name), value.decode("latin-1")
        if key in variables:
            text = f"{variables[key]}{'; ' if name == b'cookie' else ','}{text}"
        if key:
            variables[key] = text
    return variables


@lru_cache(maxsize=64)  # a name has at most 64 kB, so at most 8 MB
def _variable(name: bytes) -> str | None:
    """Return the name of a header's variable, or None for a header to drop. granian's names are in lower case."""
    if b"_" in name:
        return None
    variable = name.decode("latin-1").upper().replace("-", "_")
    return variable if variable in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{variable}"
