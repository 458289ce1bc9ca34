"""The WSGI environment that is made of an ASGI scope."""

import io
from typing import Any

import pytest
from werkzeug.wrappers import Request

from apps.http.environ import environ_of
from apps.http.received_body import no_body

HIGH = bytes(range(0x80, 0x100))


def environ(*headers: tuple[bytes, bytes], path: bytes = b"/", query: bytes = b"", version: str = "1.1") -> Any:
    scope = {
        "method": "GET",
        "raw_path": path,
        "query_string": query,
        "http_version": version,
        "scheme": "http",
        "server": ("127.0.0.1", "5000"),
        "client": ("192.0.2.7", "50000"),
        "headers": list(headers),
    }
    return environ_of(scope, no_body())


@pytest.mark.parametrize("name", [b"cookie", b"user-agent", b"authorization", b"x-request-id", b"origin"])
def test_a_header_keeps_every_byte_over_127(name: bytes) -> None:
    """F18: one character of latin-1 for each byte (PEP 3333)."""
    key = "HTTP_" + name.decode().upper().replace("-", "_")
    assert environ((name, b"a" + HIGH + b"z"))[key] == "a" + HIGH.decode("latin-1") + "z"


def test_a_cookie_beside_one_that_is_not_ascii_is_found() -> None:
    """F18."""
    cookies = Request(environ((b"cookie", "n=值; token=abc".encode()))).cookies
    assert cookies["token"] == "abc"


def test_repeated_headers_are_joined() -> None:
    """RFC 9110, 5.2; cookies by a semicolon (RFC 6265, 5.4)."""
    made = environ((b"cookie", b"a=1"), (b"x-forwarded-for", b"192.0.2.1"), (b"cookie", b"b=2"),
                   (b"x-forwarded-for", b"192.0.2.2"))  # fmt: skip
    assert (made["HTTP_COOKIE"], made["HTTP_X_FORWARDED_FOR"]) == ("a=1; b=2", "192.0.2.1,192.0.2.2")


@pytest.mark.parametrize("name", [b"x_forwarded_for", b"x-forwarded_for", b"content_length", b"x_request_id"])
def test_a_name_with_an_underscore_forges_no_other_header(name: bytes) -> None:
    """F18: with and without the header that it resembles."""
    assert set(environ((name, b"192.0.2.9"))) == set(environ())
    genuine = (name.replace(b"_", b"-"), b"7")
    assert "192.0.2.9" not in environ(genuine, (name, b"192.0.2.9")).values()


def test_a_header_cannot_replace_a_variable_of_the_server() -> None:
    made = environ((b"remote-addr", b"x"), (b"request-method", b"x"), (b"wsgi.input", b"x"), (b"path-info", b"x"))
    assert (made["REMOTE_ADDR"], made["REMOTE_PORT"], made["REQUEST_METHOD"]) == ("192.0.2.7", "50000", "GET")
    assert (made["PATH_INFO"], made["SERVER_NAME"], made["SERVER_PORT"]) == ("/", "127.0.0.1", "5000")
    assert isinstance(made["wsgi.input"], io.BytesIO)


def test_the_content_headers_have_no_prefix() -> None:
    made = environ((b"content-type", b"application/json"), (b"content-length", b"12"))
    assert (made["CONTENT_TYPE"], made["CONTENT_LENGTH"]) == ("application/json", "12")
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & set(made)


@pytest.mark.parametrize(
    ("path", "decoded"), [(b"/a%20b", "/a b"), (b"/%e5%80%bc", "/å\x80¼"), (b"/%ff%00", "/ÿ\0"), (b"/%zz", "/%zz")]
)
def test_a_path_is_decoded_once(path: bytes, decoded: str) -> None:
    """PEP 3333: to one character for each byte."""
    assert environ(path=path)["PATH_INFO"] == decoded


@pytest.mark.parametrize(("version", "protocol"), [("1", "HTTP/1.0"), ("1.1", "HTTP/1.1"), ("2", "HTTP/2")])
def test_the_protocol_and_the_query(version: str, protocol: str) -> None:
    made = environ(query=b"a=%FF&b", version=version)
    assert (made["SERVER_PROTOCOL"], made["QUERY_STRING"]) == (protocol, "a=%FF&b")
