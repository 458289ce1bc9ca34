"""T12 under load: keys rotate and retire in a running service of two processes, and no valid token is refused."""

import json
import subprocess
import sys
import threading
import time
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

ROTATIONS = 3
READERS = 4
LIFETIME = "20"  # seconds, of every token


def test_rotations_and_a_retirement_refuse_no_token(app: Flask, tmp_path: Path) -> None:
    """T12: clients read and refresh meanwhile, and every request succeeds.

    The first key is retired as soon as the command allows it.
    """
    environment = {
        "DATABASE_URL": settings(app).DATABASE_URL,
        "REDIS_URL": settings(app).REDIS_URL,
        "GATEHOUSE_JWT_ALGORITHM": "ES256",
        "GATEHOUSE_JWT_KEYS_RELOAD": "0.5",
        "GATEHOUSE_JWT_KEYS_PUBLISH_AHEAD": "1.5",
        "GATEHOUSE_JWT_ACCESS_TOKEN_EXPIRES": LIFETIME,
        "GATEHOUSE_JWT_REFRESH_TOKEN_EXPIRES": LIFETIME,
        "GATEHOUSE_JWT_LEEWAY": "0",
        "GATEHOUSE_JWT_REFRESH_ROTATION": "true",
        **{f"GATEHOUSE_{name}_LIMIT": "100000/minute" for name in ("SIGN_UP", "REFRESH", "REFRESH_ACCOUNT")},
    }
    live.checkout(tmp_path)
    kids = [rotate(tmp_path, environment)]
    with live.live_server(tmp_path, "serve", "--workers=2", "--threads=8", **environment) as server:
        stop = threading.Event()
        readers = [Reader(server.url, stop) for _ in range(READERS)]
        for reader in readers:
            reader.start()
        for _ in range(ROTATIONS):
            kids.append(rotate(tmp_path, environment))
            wait_until_used(readers, kids[-1])
        refused = run(tmp_path, environment, "retire", kids[0])
        assert "tokens signed with it may be valid until" in refused.stderr
        retire(tmp_path, environment, kids[0])
        stop.set()
        for reader in readers:
            reader.join()
    assert len(set(kids)) == 1 + ROTATIONS
    assert [reader.problems for reader in readers] == [Counter()] * READERS
    assert min(reader.refreshes for reader in readers) >= ROTATIONS


def run(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `manage.py keys ...` beside the service, as an operator does."""
    return subprocess.run(
        [sys.executable, "manage.py", "keys", *arguments],
        cwd=folder, env=live.unconfigured() | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def rotate(folder: Path, environment: dict[str, str]) -> str:
    """Return the id of the next key."""
    done = run(folder, environment, "rotate")
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def wait_until_used(readers: list["Reader"], kid: str) -> None:
    """Wait until a reader has a token of this key."""
    end = time.monotonic() + 30
    while not any(kid in reader.kids for reader in readers):
        assert time.monotonic() < end, "the new key does not sign"
        time.sleep(0.1)


def retire(folder: Path, environment: dict[str, str], kid: str) -> None:
    """Retire a key when the command first allows it, and let the readers go on for a while."""
    end = time.monotonic() + 60
    while (done := run(folder, environment, "retire", kid)).returncode != 0:
        assert time.monotonic() < end, done.stderr
    time.sleep(2)


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
