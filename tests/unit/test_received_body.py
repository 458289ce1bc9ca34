"""Bodies that arrive whole, late, too large, in parts or not at all."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from werkzeug.exceptions import HTTPException

from apps.http import received_body
from apps.http.received_body import ReceivedBody, has_body

LIMIT = 1000
DISCARDED = 5000
DISCONNECT = {"type": "http.disconnect"}


@pytest.fixture(autouse=True)
def _discard_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(received_body, "DISCARD_LIMIT", DISCARDED)


def part(body: bytes, follows: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": follows}


def receiver(messages: Iterable[dict[str, Any]]) -> Callable[[], Awaitable[dict[str, Any]]]:
    """Return an ASGI `receive` that waits for ever after the messages."""
    left = iter(messages)

    async def receive() -> dict[str, Any]:
        message = next(left, None)
        return message if message is not None else await asyncio.Future()

    return receive


def read(*messages: dict[str, Any], **headers: bytes) -> ReceivedBody:
    scope = {"headers": [(name.replace("_", "-").encode(), value) for name, value in headers.items()]}
    return asyncio.run(received_body.read(scope, receiver(messages), LIMIT))


def status_of(body: ReceivedBody) -> int | None:
    with pytest.raises(HTTPException) as caught:
        body.stream.read(1)
    return caught.value.code


@pytest.mark.parametrize("sizes", [[0], [1], [3, 4, 0], [LIMIT], [LIMIT, 1], [LIMIT - 1, 2, 5], [DISCARDED]])
def test_a_body_is_kept_up_to_the_limit_and_read_to_its_end(sizes: list[int]) -> None:
    body = read(*(part(b"x" * size, number < len(sizes)) for number, size in enumerate(sizes, 1)))
    assert body.is_whole
    assert body.stream.read() == b"x" * min(sum(sizes), LIMIT)


def test_a_body_beyond_what_is_discarded_ends_the_connection() -> None:
    body = read(part(b"x" * DISCARDED), part(b"x"), part(b"x"))
    assert not body.is_whole
    assert body.stream.read() == b"x" * LIMIT


def test_a_body_that_is_too_large_is_refused_before_a_client_sends_it_that_asks() -> None:
    body = read(content_length=str(LIMIT).encode(), expect=b"100-continue")
    assert (body.is_whole, status_of(body)) == (False, 413)


def test_a_body_that_breaks_off_is_refused_when_it_is_read() -> None:
    body = read(part(b'{"a":'), DISCONNECT)
    assert (body.is_whole, status_of(body)) == (False, 400)


def test_a_body_that_stalls_is_refused_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(received_body, "READ_TIMEOUT", 0.05)
    body = read(part(b'{"a":'))
    assert (body.is_whole, status_of(body)) == (False, 408)


@pytest.mark.parametrize(
    ("headers", "version", "is_so"),
    [
        ([], "1.1", False),
        ([(b"content-length", b"0")], "1.1", False),
        ([(b"content-length", b"1")], "1.1", True),
        ([(b"transfer-encoding", b"chunked")], "1.1", True),
        ([(b"content-length", b"0"), (b"transfer-encoding", b"chunked")], "1.1", True),
        ([], "2", True),
    ],
)
def test_only_headers_announce_a_body(headers: list[tuple[bytes, bytes]], version: str, is_so: bool) -> None:
    assert has_body({"headers": headers, "http_version": version}) == is_so
