"""One request in this process, without a network except to Redis, compared with its indispensable parts.

(a) a bare Flask route that answers JSON; (b) one round trip to Redis for two keys; (c) PyJWT verifies an HS256 token;
(d) `GET /api/v1/users/` from the cache; (e) `POST /api/v1/refresh`; (f) the read as the tutorial does it; (g) the route
of (a) with the round trip of (b) inside.

Single calls alternate, because in a service no call finds the processor's caches as it left them. A second measurement
alternates loops of many calls.
"""

import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jwt
import redis
from flask import Flask
from werkzeug.test import EnvironBuilder

from apps import create_app
from benchmarks.measure import in_turn, ratio
from benchmarks.peers.tutorial_app import create_app as create_tutorial_app
from benchmarks.stores import Stores, migrate
from tests.contract.test_call_count import counting
from tests.support.people import People, bearer

SECRET = "a secret of the benchmark, long enough for SHA-256"
NO_LIMIT = "1000000/second"


def measure(stores: Stores, *, is_quick: bool) -> dict[str, Any]:
    """Return the medians, in microseconds and in function calls, and their ratios."""
    with stores.empty_database("gatehouse_bench") as database_url, stores.empty_database("tutorial_bench") as other_url:
        migrate(database_url)
        acts = _acts(database_url, other_url, stores.empty_redis())
        by_call = in_turn(acts, rounds=250 if is_quick else 10_000, calls=1)
        by_loop = in_turn(acts, rounds=5 if is_quick else 40, calls=50 if is_quick else 250)
        functions = {name: [_count_functions(act)] for name, act in acts.items()}
    return {"by_call": _summary(by_call), "by_loop": _summary(by_loop), "functions": _summary(functions)}


def _summary(figures: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    parts = [a + b for a, b in zip(figures["a"], figures["b"], strict=True)]
    ratios = {f"{name}/(a+b)": ratio(figures[name], parts) for name in "defg"}
    ratios["f/d"] = ratio(figures["f"], figures["d"])
    return {
        "medians": {name: round(statistics.median(of_one), 1) for name, of_one in figures.items()},
        "ratios": {name: round(value, 2) for name, value in ratios.items()},
    }


def _count_functions(act: Callable[[], object]) -> int:
    """Return the number of functions that a warm act calls: the minimum of five, because periodic work may add some."""
    counts = []
    for _ in range(5):
        with counting() as count:
            act()
        counts.append(count[0])
    return min(counts)


def _acts(database_url: str, other_url: str, redis_url: str) -> dict[str, Callable[[], object]]:
    settings: dict[str, Any] = {"JWT_SECRET_KEY": SECRET, "LOG_LEVEL": "WARNING", "CACHE_TTL": 3600}
    settings |= {"REFRESH_LIMIT": NO_LIMIT, "REFRESH_ACCOUNT_LIMIT": NO_LIMIT}
    app = create_app("testing", DATABASE_URL=database_url, REDIS_URL=redis_url, **settings)
    alice = People(app.test_client()).sign_up()
    tutorial = create_tutorial_app(other_url, redis_url)
    bob = People(tutorial.test_client()).sign_up()
    server = redis.Redis.from_url(redis_url, decode_responses=True)
    server.mset({"one": "x" * 250, "two": "x" * 250})
    token = jwt.encode({"sub": "1", "type": "access"} | _claims(alice.access_token), SECRET)
    return {
        "a": _request(_bare(lambda: None), "GET", "/"),
        "b": lambda: server.mget(["one", "two"]),
        "c": lambda: jwt.decode(token, SECRET, ["HS256"], audience="gatehouse"),
        "d": _request(app, "GET", "/api/v1/users/", alice.access_token),
        "e": _request(app, "POST", "/api/v1/refresh", alice.refresh_token),
        "f": _request(tutorial, "GET", "/api/v1/users/", bob.access_token),
        "g": _request(_bare(lambda: server.mget(["one", "two"])), "GET", "/"),
    }


def _claims(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def _bare(first: Callable[[], object]) -> Flask:
    """Return an application with one route, which calls `first` and answers JSON."""
    app = Flask("bare")

    @app.get("/")
    def answer() -> dict[str, Any]:
        first()
        return {"state": 0, "message": "ok", "data": {"id": 1, "username": "alice-liddell", "age": 18}}

    return app


def _request(app: Flask, method: str, path: str, token: str = "") -> Callable[[], object]:
    environ = EnvironBuilder(path, method=method, headers=bearer(token) if token else {}).get_environ()

    def send() -> None:
        statuses: list[str] = []
        answer = app.wsgi_app({**environ, "wsgi.input": io.BytesIO()}, _starter(statuses))
        body = b"".join(answer)
        answer.close()  # type: ignore[attr-defined]
        if statuses != ["200 OK"]:
            raise SystemExit(f"{method} {path}: {statuses} {body!r}")

    return send


def _starter(statuses: list[str]) -> Callable[..., Any]:
    return lambda status, _headers, _error=None: statuses.append(status)
