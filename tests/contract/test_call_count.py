"""The number of function calls per request, which does not depend on the machine's load, as the time would.

Each number below is the sum of Python and C functions that one warm request calls, with Redis and the locked versions
of the libraries. If the guard fails, find out first what the change calls on every request, with `python -m cProfile`
on a loop. If the cost is justified, write the number of the failure here and name the reason in the commit message.
The test also fails on a number that is far too high, because it would guard nothing.
"""

import gc
import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import redis
from flask import Flask
from sqlalchemy import event
from werkzeug.test import EnvironBuilder

from apps.extensions import db
from tests.support.people import People, bearer

pytestmark = [
    pytest.mark.stores("postgresql"),
    pytest.mark.settings(REDIS_TIMEOUT=5.0),  # the longest allowed: a busy machine may be slow
    pytest.mark.usefixtures("output"),
]

CALLS = {"GET /api/v1/users/": 586, "POST /api/v1/refresh": 698}  # Python 3.11 and 3.12; 3.13 calls 2 % fewer
GROWTH = 1.15
WARM = 3  # requests in a row that the cache answered


@contextmanager
def counting() -> Iterator[list[int]]:
    """Count the calls of this thread within the block, without those of the garbage collector."""
    count = [0]

    def note(_frame: object, event: str, _argument: object) -> None:
        count[0] += event in ("call", "c_call")

    gc.disable()
    sys.setprofile(note)
    try:
        yield count
    finally:
        sys.setprofile(None)
        gc.enable()


def calls(app: Flask, request: str, token: str) -> int:
    """Return the number of function calls for a request that the cache answers.

    If Redis was too slow, the breaker of the cache is open for a second or two. The database answers meanwhile, which
    takes three times as many calls, so these requests are repeated.
    """
    method, path = request.split()
    warm = count = 0
    deadline = time.monotonic() + 15  # seconds
    with executed_statements(app) as statements:
        while warm < WARM:
            assert time.monotonic() < deadline, f"the cache does not answer {request}: {statements}"
            statements.clear()
            count = count_one(app, EnvironBuilder(path, method=method, headers=bearer(token)).get_environ())
            warm = 0 if statements else warm + 1
            if not warm:
                time.sleep(0.05)
    return count


@contextmanager
def executed_statements(app: Flask) -> Iterator[list[str]]:
    """Yield the list of the SQL statements that the application executes within the block."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


def count_one(app: Flask, environ: dict[str, Any]) -> int:
    statuses: list[str] = []

    def start_response(status: str, _headers: object, _error: object = None) -> Callable[[bytes], object]:
        statuses.append(status)
        return io.BytesIO().write

    with counting() as count, closing(app.wsgi_app(environ, start_response)) as answer:
        body = b"".join(answer)
    assert statuses == ["200 OK"], body
    return count[0]


def token_for(request: str, people: People) -> str:
    alice = people.sign_up()
    return alice.refresh_token if request.endswith("refresh") else alice.access_token


@pytest.mark.parametrize("request_line", CALLS)
def test_a_request_calls_as_many_functions_as_ever(app: Flask, people: People, request_line: str) -> None:
    """If the number changes by more than 15 %, update it: see the module's docstring."""
    counted = calls(app, request_line, token_for(request_line, people))
    assert CALLS[request_line] / GROWTH <= counted <= CALLS[request_line] * GROWTH, f"{request_line} calls {counted}"


@pytest.mark.parametrize("request_line", CALLS)
def test_the_count_is_the_same_every_time_and_misses_nothing(
    app: Flask, people: People, monkeypatch: pytest.MonkeyPatch, request_line: str
) -> None:
    """The guard can fail: a hundred more calls in a request raise the count by a hundred."""
    token = token_for(request_line, people)
    usual = calls(app, request_line, token)
    assert abs(calls(app, request_line, token) - usual) <= 5

    answer = app.wsgi_app

    def wasteful(environ: Any, start_response: Any) -> Any:
        for _ in range(100):
            len("")
        return answer(environ, start_response)

    monkeypatch.setattr(app, "wsgi_app", wasteful)
    assert 95 <= calls(app, request_line, token) - usual <= 110


def test_a_request_that_the_database_answers_is_not_measured(app: Flask, people: People) -> None:
    """A slow Redis opens the breaker of the cache, and the number stays the same."""
    request_line = "GET /api/v1/users/"
    token = token_for(request_line, people)
    usual = calls(app, request_line, token)
    app.extensions["cache"]._open(redis.TimeoutError("too slow"))
    assert abs(calls(app, request_line, token) - usual) <= 5
