"""`manage.py serve` over real connections: what is kept, what is closed, and what reaches the application."""

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from tests.support.live import Live, live_server
from tests.support.people import sign_up_body

pytestmark = pytest.mark.timeout(120)

THREADS = 2
JSON = {"Content-Type": "application/json"}
METHODS = ("POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS")
SIZES = {"small": 20, "large": 60_000, "over the limit": 70_000, "far over the limit": 3_000_000}
REFUSED = {  # what the service refuses before it reads the body, or for the body: status, path, headers
    "no token": (401, "/api/v1/users/1", JSON),
    "a bad token": (401, "/api/v1/users/1", JSON | {"Authorization": "Bearer no.token.here"}),
    "no such path": (404, "/api/v1/nothing", JSON),
    "another method": (405, "/healthz", JSON),
    "another type": (415, "/api/v1/login", {"Content-Type": "text/plain"}),
    "no JSON": (400, "/api/v1/login", JSON),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("bridge")
    with live_server(folder, "serve", f"--threads={THREADS}", GATEHOUSE_LOGIN_LIMIT="1000000/minute") as live:
        yield live


def port_of(server: Live) -> int:
    return int(server.url.rpartition(":")[2])


class Kept:
    """One connection. It fails instead of opening another."""

    def __init__(self, connection: HTTPConnection) -> None:
        self.connection = connection

    def send(self, method: str, path: str, body: bytes, headers: dict[str, str], *, is_chunked: bool) -> HTTPResponse:
        parts = [body[start : start + 16_000] for start in range(0, len(body), 16_000)]
        headers = headers | ({"Transfer-Encoding": "chunked"} if is_chunked else {})
        self.connection.request(method, path, parts if is_chunked else body, headers, encode_chunked=is_chunked)
        response = self.connection.getresponse()
        response.read()
        return response


@contextmanager
def kept_connection(server: Live) -> Iterator[Kept]:
    connection = HTTPConnection("127.0.0.1", port_of(server), timeout=30)
    connection.connect()
    connection.auto_open = 0
    try:
        yield Kept(connection)
    finally:
        connection.close()


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("refused", REFUSED)
def test_a_refusal_keeps_the_connection(server: Live, refused: str, size: int, is_chunked: bool) -> None:
    """V10: for every method, 150 requests on one connection."""
    status, path, headers = REFUSED[refused]
    expected = 413 if refused == "no JSON" and size > SIZES["large"] else status
    with kept_connection(server) as kept:
        for number in range(150):
            method = METHODS[number % len(METHODS)]
            response = kept.send(method, path, b"x" * size, headers, is_chunked=is_chunked)
            assert response.getheader("Connection") is None
            assert response.status in (expected, 405) or method in ("GET", "OPTIONS")


def test_a_limit_keeps_the_connection(tmp_path: Path) -> None:
    """V10: 429 comes before the body is read."""
    with live_server(tmp_path, "serve", GATEHOUSE_LOGIN_LIMIT="1/minute") as server, kept_connection(server) as kept:
        statuses = [
            kept.send("POST", "/api/v1/login", b"x" * 50_000, JSON, is_chunked=bool(number % 2)).status
            for number in range(150)
        ]
    assert statuses == [400] + 149 * [429]


def exchange(server: Live, request: bytes) -> bytes:
    """Return everything that comes until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=30) as connection:
        connection.sendall(request)
        received = b""
        while more := connection.recv(65536):
            received += more
        return received


HIGH = bytes(range(0x80, 0x100))
NAMES = (b"User-Agent", b"Cookie", b"Origin", b"X-Request-Id")
HEAD = b"POST /api/v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LAST = b"Connection: close\r\n"
CLOSE = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def test_requests_without_waiting_are_answered_in_order(server: Live) -> None:
    received = exchange(
        server, HEAD + b"Content-Length: 2\r\n\r\n{}" + b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + CLOSE
    )
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"400", b"200", b"200"]
    assert received.count(b'"status":"ok"') == 1  # HEAD has no body


def test_a_client_that_asks_before_it_sends_gets_an_answer(server: Live) -> None:
    """RFC 9110, 10.1.1: 100 for a body that is read, the refusal alone for one that is not."""
    received = exchange(server, HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}" + CLOSE)
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 ")
    refused = exchange(server, HEAD + b"Expect: 100-continue\r\nContent-Length: 9000000\r\n\r\n")
    assert refused.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close\r\n" in refused


def test_http_1_0_is_answered(server: Live) -> None:
    assert exchange(server, b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 ")


def test_a_body_that_is_not_valid_http_is_refused_in_the_envelope(server: Live) -> None:
    received = exchange(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nZZ\r\n")
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nconnection: close" in head
    assert json.loads(body)["error"] == {"type": "bad_request"}


def test_stalled_bodies_and_lost_clients_hold_no_thread(server: Live) -> None:
    """V9: also without a proxy."""
    with ExitStack() as stack:
        for _ in range(10 * THREADS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(server)), timeout=30))
            connection.sendall(HEAD + b"Content-Length: 50\r\n\r\n{")
        started = time.monotonic()
        assert server.send("GET", "/healthz")[0] == 200
        assert time.monotonic() - started < 5
    assert server.send("GET", "/healthz")[0] == 200


def test_what_is_answered_in_parts_is_sent_whole(server: Live) -> None:
    with kept_connection(server) as kept:
        response = kept.send("GET", "/api/v1/docs/swagger-ui-bundle.js", b"", {}, is_chunked=False)
    assert response.status == 200
    assert int(response.getheader("Content-Length") or 0) > 1_000_000


def test_headers_with_bytes_over_127_reach_the_application(server: Live) -> None:
    """F18: a request with them is authenticated, and the session shows the User-Agent."""
    signed_up = sign_up_body()
    assert server.send("POST", "/api/v1/users/", signed_up)[0] == 200
    login = json.dumps({name: signed_up[name] for name in ("username", "password")}).encode()
    for value in (HIGH, b"\x80", b"\x85", b"\xa0", b"\xff", "值".encode()):
        others = b"".join(b"%s: a%sz\r\n" % (name, value) for name in NAMES)
        answer = exchange(server, HEAD + others + LAST + b"Content-Length: %d\r\n\r\n%s" % (len(login), login))
        token = json.loads(answer.partition(b"\r\n\r\n")[2])["data"]["access_token"]
        sessions = server.send("GET", "/api/v1/sessions", token=token)[1]["data"]
        assert f"a{value.decode('latin-1')}z" in json.dumps(sessions, ensure_ascii=False)
        refused = exchange(server, HEAD + b"Authorization: Bearer a%s\r\n" % value + LAST + b"\r\n")
        assert refused.startswith(b"HTTP/1.1 400 ")  # the route needs no token, and the body is missing


def test_a_cookie_that_is_not_ascii_hides_no_other(tmp_path: Path) -> None:
    """F18: in cookie mode, the token beside it is found."""
    with live_server(tmp_path, "serve", GATEHOUSE_JWT_TOKEN_LOCATION='["headers", "cookies"]') as server:
        request = json.dumps(sign_up_body()).encode()
        head = b"POST /api/v1/users/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        answer = exchange(server, head + b"Content-Length: %d\r\n\r\n%s" % (len(request), request))
        token = next(line for line in answer.split(b"\r\n") if b"__Host-access_token=" in line)
        cookie = token.partition(b": ")[2].partition(b";")[0]
        for other in ("n=值".encode(), b"n=\xff"):
            read = b"GET /api/v1/users/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: %s; %s\r\n\r\n" % (
                other,
                cookie,
            )
            assert exchange(server, read).startswith(b"HTTP/1.1 200 ")
