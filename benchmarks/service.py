"""Gatehouse as in production: `manage.py serve` with two workers."""

import json
import secrets
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import live
from tests.support.people import bearer, sign_up_body

WORKERS, THREADS = 2, 8
NO_LIMIT = "1000000/second"


@dataclass(frozen=True)
class Service:
    """A running server, and the token of a user."""

    url: str
    token: str
    process_id: int


@contextmanager
def service(database_url: str, redis_url: str, **settings: str) -> Iterator[Service]:
    """Serve until the end of the block, without a log line per request (as the peers) and without effective limits."""
    environment = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "GATEHOUSE_LOG_LEVEL": "WARNING",
        "GATEHOUSE_JWT_ACCESS_TOKEN_EXPIRES": "3600",
        "GATEHOUSE_JWT_REFRESH_TOKEN_EXPIRES": "7200",
        "GATEHOUSE_SESSIONS_PER_USER": "10",
        **{f"GATEHOUSE_{name}_LIMIT": NO_LIMIT for name in ("SIGN_UP", "LOGIN", "LOGIN_ACCOUNT")},
        **settings,
    }
    options = (f"--workers={WORKERS}", f"--threads={THREADS}")
    with (
        tempfile.TemporaryDirectory() as folder,
        live.live_server(Path(folder), "serve", *options, **environment) as server,
    ):
        api = f"{server.url}/api/v1"
        token = send("POST", f"{api}/users/", sign_up_body(f"somebody-{secrets.token_hex(4)}"))["access_token"]
        read = f"{api}/users/"
        for _ in range(20):  # warm up both workers and fill the cache
            send("GET", read, token=token)
        yield Service(read, token, server.process.pid)


def send(method: str, url: str, body: Any = None, token: str = "") -> Any:
    """Send a request and return the `data` of the answer."""
    headers = {"Content-Type": "application/json"} | (bearer(token) if token else {})
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)["data"]
