"""Without Redis one process alone may serve: another would not hear of a logout."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support import live, stores
from tests.support.people import bearer, sign_up_body

pytestmark = pytest.mark.timeout(120)


def send(server: live.Live, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"} | (bearer(token) if token else {})
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{server.url}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_second_process_serves_only_after_the_first(tmp_path: Path) -> None:
    """R6: under any WSGI server, not only under `manage.py serve`, which refuses more than one worker."""
    settings = {"DATABASE_URL": stores.make_database("sqlite", tmp_path)}
    (tmp_path / "service").mkdir()
    with live.live_server(tmp_path / "service", "run", **settings) as first:
        status, answer = send(first, "POST", "/api/v1/users/", sign_up_body())
        token = answer["data"]["access_token"]
        with live.live_server(tmp_path / "service", "run", **settings) as second:
            for method, path, body in (("GET", "/api/v1/users/", None), ("POST", "/api/v1/logout", {})):
                status, answer = send(second, method, path, body, token)
                assert (status, answer["error"]["type"]) == (503, "second_process")
            assert send(second, "GET", "/healthz")[0] == 200
            assert send(first, "POST", "/api/v1/logout", {}, token)[0] == 200
            live.stop(first.process)
            assert send(second, "GET", "/api/v1/users/", token=token)[0] == 401
            assert send(second, "POST", "/api/v1/users/", sign_up_body())[0] == 200
