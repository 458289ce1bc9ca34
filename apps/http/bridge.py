"""A bridge from granian's ASGI interface to the WSGI application: requests in, responses out.

granian's own WSGI interface drops header values with bytes over 127, and closes the connection when a response is sent
before the body was read (docs/decisions/0006-granian.md).
"""

import asyncio
import logging
import threading
from queue import SimpleQueue
from typing import Any, NamedTuple

from flask import Flask

from apps.errors import ApiError
from apps.http.environ import environ_of
from apps.http.headers import HEADERS
from apps.http.received_body import ReceivedBody, has_body, no_body, read

logger = logging.getLogger(__name__)


class Reply(NamedTuple):
    """The status, the headers and the whole body of a response."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Bridge:
    """Runs `app` in `threads` threads. A request takes a thread only after its body has arrived."""

    def __init__(self, app: Flask, threads: int, loop: asyncio.AbstractEventLoop) -> None:
        """Start the threads. `loop` is the event loop of the worker, which reads the bodies."""
        self._app = app
        self._body_limit = (app.config["MAX_CONTENT_LENGTH"] or 0) + 1  # the extra byte shows that a body is too large
        self._loop = loop
        self._is_draining = False
        self._reading: set[asyncio.Task[None]] = set()  # the loop itself keeps only weak references
        self._queue: SimpleQueue[tuple[Any, ReceivedBody]] = SimpleQueue()
        for _ in range(threads):
            threading.Thread(target=self._work, daemon=True).start()

    def schedule(self, request: Any) -> None:
        """Queue a request, after its body if it has one. granian calls this in a thread that must not block."""
        if has_body(request.scope):
            self._loop.call_soon_threadsafe(self._begin_reading, request)
        else:
            self._queue.put((request, no_body()))

    def drain(self) -> None:
        """Close each connection after its next response, so that the client connects to another worker."""
        self._is_draining = True

    def _begin_reading(self, request: Any) -> None:
        task = self._loop.create_task(self._receive(request))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _receive(self, request: Any) -> None:
        self._queue.put((request, await read(request.scope, request.proto.receive, self._body_limit)))

    def _work(self) -> None:
        while True:
            request, body = self._queue.get()
            try:
                self._answer(request, body)
            except Exception:
                logger.exception("response not sent", extra={"event": "error"})
                request.done()

    def _answer(self, request: Any, body: ReceivedBody) -> None:
        reply = self._reply(request, body)
        if self._is_draining or not body.is_whole:
            reply.headers.append((b"connection", b"close"))
        send = request.proto.send  # a plain function in granian, without `await`
        send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        send({"type": "http.response.body", "body": reply.body})
        request.done()

    def _reply(self, request: Any, body: ReceivedBody) -> Reply:
        try:
            return _call(self._app, request.scope, body)
        except Exception:  # in WSGI middleware: Flask handles the errors of views
            logger.exception("unexpected error", extra={"event": "error"})
            return self._internal_error()

    def _internal_error(self) -> Reply:
        with self._app.test_request_context():
            response = self._app.make_response(self._app.handle_user_exception(ApiError()))
        return Reply(response.status_code, _encoded([*HEADERS.items(), *response.headers]), response.get_data())


def _call(app: Flask, scope: Any, body: ReceivedBody) -> Reply:
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> Any:
        started[:] = [(status, headers)]

    chunks = app(environ_of(scope, body), start_response)
    try:
        content = b"".join(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    status, headers = started[0]
    return Reply(int(status[:3]), _encoded(headers), content)


def _encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
