"""T12 under load: keys rotate in a running service of two processes, and no valid token is refused."""

import json
import subprocess
import sys
import threading
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
from flask import Flask

from apps.config import settings
from tests.support import live
from tests.support.people import bearer, sign_up_body

pytestmark = [pytest.mark.stores("postgresql"), pytest.mark.timeout(120)]

ROTATIONS = 4
READERS = 4
RELOAD = "0.5"  # seconds


def test_rotations_refuse_no_token(app: Flask, tmp_path: Path) -> None:
    """T12: clients read and refresh through several rotations, and every request succeeds."""
    environment = {
        "DATABASE_URL": settings(app).DATABASE_URL,
        "REDIS_URL": settings(app).REDIS_URL,
        "GATEHOUSE_JWT_ALGORITHM": "ES256",
        "GATEHOUSE_JWT_KEYS_RELOAD": RELOAD,
        "GATEHOUSE_JWT_REFRESH_ROTATION": "true",
        **{f"GATEHOUSE_{name}_LIMIT": "100000/minute" for name in ("SIGN_UP", "REFRESH", "REFRESH_ACCOUNT")},
    }
    live.checkout(tmp_path)
    manage(tmp_path, environment, "rotate")
    with live.live_server(tmp_path, "serve", "--workers=2", "--threads=8", **environment) as server:
        stop = threading.Event()
        readers = [Reader(server.url, stop) for _ in range(READERS)]
        for reader in readers:
            reader.start()
        kids = [manage(tmp_path, environment, "rotate") for _ in range(ROTATIONS)]
        stop.set()
        for reader in readers:
            reader.join()
    assert len(set(kids)) == ROTATIONS
    assert [reader.problems for reader in readers] == [Counter()] * READERS
    assert min(reader.refreshes for reader in readers) >= ROTATIONS
    assert set(kids) <= set.union(*(reader.kids for reader in readers)) | {kids[-1]}


def manage(folder: Path, environment: dict[str, str], *arguments: str) -> str:
    """Run `manage.py keys ...` beside the service, as an operator does, and return the key's id."""
    done = subprocess.run(
        [sys.executable, "manage.py", "keys", *arguments],
        cwd=folder, env=live.unconfigured() | environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip().splitlines()[-1].split()[-1]


class Reader(threading.Thread):
    """A client that reads its own user with its newest token, and refreshes after every five reads."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.address = urlsplit(url).netloc
        self.stop = stop
        self.problems: Counter[tuple[str, int]] = Counter()
        self.kids: set[str] = set()
        self.refreshes = 0

    def run(self) -> None:
        tokens = self.send("POST", "/users/", body=sign_up_body())["data"]
        while not self.stop.is_set():
            for _ in range(5):
                self.send("GET", "/users/", tokens["access_token"])
            tokens |= self.send("POST", "/refresh", tokens["refresh_token"])["data"]
            self.refreshes += 1
            self.kids.add(kid_of(tokens["access_token"]))

    def send(self, method: str, path: str, token: str = "", body: Any = None) -> Any:
        connection = HTTPConnection(self.address, timeout=20)  # a new connection each time, so both processes serve
        headers = bearer(token) if token else {"Content-Type": "application/json"}
        connection.request(method, f"/api/v1{path}", json.dumps(body) if body else None, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        if response.status != 200:
            self.problems[path, response.status] += 1
            answer["data"] = {}
        return answer


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])
