"""Requests that are no valid HTTP or too large: `manage.py run` refuses them in the envelope."""

import json
import socket
from collections.abc import Iterator
from email.message import Message
from http.client import HTTPResponse
from typing import Any

import pytest

from apps.http.headers import HEADERS
from tests.support.live import Live, live_server

CANARY = "canary-7Qe2vX"
MANY = "GET / HTTP/1.1\r\n" + f"X: {CANARY}\r\n" * 102 + "\r\n"
UNREADABLE = {
    "four words": (f"GET /api/v1/users/?token={CANARY} {CANARY} HTTP/1.1\r\n\r\n", 400, "bad_request"),
    "one word": (f"{CANARY}\r\n", 400, "bad_request"),
    "no version": (f"POST /{CANARY}\r\n", 400, "bad_request"),
    "another version": (f"GET /{CANARY} HTTP/3.0\r\n\r\n", 505, "http_version_not_supported"),
    "a long path": (f"GET /{CANARY}".ljust(65_537, "x"), 414, "request_uri_too_long"),
    "many headers": (MANY, 431, "request_header_fields_too_large"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("unreadable")) as live:
        yield live


def exchange(server: Live, request: str) -> tuple[int, str, Message, Any]:
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request.encode())
        response = HTTPResponse(connection)
        response.begin()
        return response.status, response.reason, response.headers, json.load(response)


@pytest.mark.parametrize(("request_", "status", "type_"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_refused_in_the_envelope(server: Live, request_: str, status: int, type_: str) -> None:
    """I6, L1: with the usual headers, and without a part of the request in the response or in a log."""
    answered, reason, headers, body = exchange(server, request_)
    assert (answered, body["code"], body["error"]["type"]) == (status, status, type_)
    assert set(body) == {"code", "data", "error", "message", "state"}
    assert HEADERS.items() <= dict(headers).items()
    assert (headers["Server"], headers["Content-Type"]) == ("gatehouse", "application/json")
    assert CANARY not in reason + json.dumps(body) + server.log
