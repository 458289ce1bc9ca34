"""How many functions a request calls: the same on a busy machine as on an idle one, unlike the time that it takes.

A number below is the sum of Python and C functions that one warm request calls, with Redis and the locked versions of
the libraries. When the guard fails, look first at what the change calls on every request:
`python -m cProfile` on a loop of it shows that. If it must cost so much, write the number that the failure names
here, and say in the commit message what it buys. A number that is far too high guards nothing, and fails as well.
"""

import gc
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import EnvironBuilder

from tests.support.people import People, bearer

pytestmark = [pytest.mark.stores("postgresql"), pytest.mark.usefixtures("output")]

CALLS = {"GET /api/v1/users/": 586, "POST /api/v1/refresh": 698}  # Python 3.11 and 3.12; 3.13 calls 2 % fewer
GROWTH = 1.15


@contextmanager
def counting() -> Iterator[list[int]]:
    """Count the calls of this thread within the block; what the garbage collector calls is left out."""
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
    """Return how many functions the service calls for a request that it has answered before."""
    method, path = request.split()
    return [count_one(app, EnvironBuilder(path, method=method, headers=bearer(token)).get_environ()) for _ in range(3)][
        -1
    ]


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
    """Fifteen in a hundred more, or less, and the number here must be another one: see above."""
    counted = calls(app, request_line, token_for(request_line, people))
    assert CALLS[request_line] / GROWTH <= counted <= CALLS[request_line] * GROWTH, f"{request_line} calls {counted}"


@pytest.mark.parametrize("request_line", CALLS)
def test_the_count_is_the_same_every_time_and_misses_nothing(
    app: Flask, people: People, monkeypatch: pytest.MonkeyPatch, request_line: str
) -> None:
    """The guard can fail: a hundred calls more in a request are a hundred more in the count."""
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
