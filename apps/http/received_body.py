"""Read the body of a request before a thread handles the request, within limits of size and time."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge, RequestTimeout

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]

READ_TIMEOUT = 30  # seconds for the whole body
DISCARD_LIMIT = 64 * 1024 * 1024  # bytes of a body that are read and discarded to keep the connection


class FailedStream:
    """The stream of a body that did not arrive: `read` raises the error."""

    def __init__(self, error: HTTPException) -> None:
        self._error = error

    def read(self, _size: int = -1) -> NoReturn:
        """Raise the error."""
        raise self._error


class ReceivedBody(NamedTuple):
    """The stream of a body. `is_whole` is False if more of it may follow; then the connection must be closed."""

    stream: io.BytesIO | FailedStream
    is_whole: bool = True


def no_body() -> ReceivedBody:
    """Return the body of a request that has none."""
    return ReceivedBody(io.BytesIO())


def has_body(scope: Scope) -> bool:
    """Return False if no body follows (RFC 9112, 6.3). Always True for HTTP/2, whose headers do not say."""
    if scope["http_version"] == "2":
        return True
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in scope["headers"]
    )


def _expects_refusal(scope: Scope, limit: int) -> bool:
    """Return True if the client waits for `100 Continue` (RFC 9110, 10.1.1) to send a body that is too large."""
    headers = dict(scope["headers"])
    return b"expect" in headers and int(headers.get(b"content-length", 0)) >= limit


async def read(scope: Scope, receive: Receive, limit: int) -> ReceivedBody:
    """Return the first `limit` bytes of the body and discard the rest, within `DISCARD_LIMIT` and `READ_TIMEOUT`.

    Raises nothing: if the body does not arrive, the stream raises a 400, 408 or 413 when the application reads it.
    """
    if _expects_refusal(scope, limit):
        return ReceivedBody(FailedStream(RequestEntityTooLarge()), is_whole=False)
    try:
        async with asyncio.timeout(READ_TIMEOUT):
            return await _read(receive, limit)
    except TimeoutError:
        error = RequestTimeout(f"The body did not arrive within {READ_TIMEOUT} seconds. Send the request again.")
        return ReceivedBody(FailedStream(error), is_whole=False)


async def _read(receive: Receive, limit: int) -> ReceivedBody:
    stream, length, follows = io.BytesIO(), 0, True
    while follows and length <= DISCARD_LIMIT:
        message = await receive()
        if message["type"] == "http.disconnect":
            error = BadRequest("The body ended too early or is not valid HTTP.")
            return ReceivedBody(FailedStream(error), is_whole=False)
        stream.write(message["body"][: max(limit - length, 0)])
        length += len(message["body"])
        follows = message["more_body"]
    stream.seek(0)
    return ReceivedBody(stream, is_whole=not follows)
