"""The services that Gatehouse is compared with. Each does the same work, with two workers, as its makers recommend.

Each worker has at most ten connections to the database, so that all servers can run at the same time.
"""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.live import free_port
from tests.support.people import sign_up_body

FOLDER = Path(__file__).parent
BIN = FOLDER.parent / ".venv" / "bin"
EMAIL, PASSWORD = "alice@example.com", "correct horse battery"


@dataclass(frozen=True)
class Peer:
    """A service: the command that starts it on a port, and the function that signs a user in and returns the token."""

    name: str
    database: str
    read: str
    command: Callable[[int], list[str]]
    sign_in: Callable[[str], str]
    environment: dict[str, str]
    prepare: list[str] | None = None

    @contextmanager
    def start(self, folder: Path, database_url: str, redis_url: str) -> Iterator[tuple[str, str]]:
        """Serve until the end of the block; yield the URL of the read and a user's token."""
        port = free_port()
        stores = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "PORT": str(port)}
        environment = os.environ | stores | self.environment
        if self.prepare:
            subprocess.run(self.prepare, cwd=FOLDER, env=environment, check=True)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                self.command(port), cwd=FOLDER, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            base = f"http://127.0.0.1:{port}"
            _wait(base, process, folder / "log")
            url, token = base + self.read, self.sign_in(base)
            _check(url, token)
            yield url, token
        finally:
            with suppress(ProcessLookupError):  # it exited early; _wait has reported it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(base: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(base, timeout=10).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{process.args!r} does not answer:\n{log.read_text()}") from None
            time.sleep(0.1)
        else:
            return


def _check(url: str, token: str) -> None:
    """Fail unless the user is returned with the token, and only with it. Otherwise no work would be measured."""
    with_token, without = _get(url, token), _get(url, "")
    if not any(name in with_token for name in (EMAIL, "somebody")) or EMAIL in without or "somebody" in without:
        raise SystemExit(f"{url} answers {with_token!r}, and without a token {without!r}")


def _get(url: str, token: str) -> str:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return str(error.read().decode())


def _post(url: str, body: Any, kind: str = "application/json") -> tuple[Any, Any]:
    data = json.dumps(body).encode() if kind == "application/json" else body.encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": kind}), timeout=30) as response:
        return json.load(response), response.headers


def _sign_in_tutorial(base: str) -> str:
    token: str = _post(f"{base}/api/v1/users/", sign_up_body("somebody"))[0]["data"]["access_token"]
    return token


def _sign_in_fastapi_users(base: str) -> str:
    _post(f"{base}/auth/register", {"email": EMAIL, "password": PASSWORD})
    form = f"username={EMAIL}&password={PASSWORD.replace(' ', '+')}"
    token: str = _post(f"{base}/auth/jwt/login", form, "application/x-www-form-urlencoded")[0]["access_token"]
    return token


def _sign_in_djoser(base: str) -> str:
    account = {"username": "somebody", "email": EMAIL, "password": PASSWORD}
    _post(f"{base}/auth/users/", account)
    token: str = _post(f"{base}/auth/jwt/create/", account)[0]["access"]
    return token


def _sign_in_better_auth(base: str) -> str:
    headers = _post(f"{base}/api/auth/sign-up/email", {"email": EMAIL, "password": PASSWORD, "name": "Alice"})[1]
    token: str = headers["set-auth-token"]
    return token


PEERS = (
    Peer(
        name="fastapi-users (uvicorn, asyncpg)",
        database="fastapi_users_bench",
        read="/users/me",
        command=lambda port: [
            *(str(BIN / "uvicorn"), "fastapi_users_app:app", f"--port={port}", "--workers=2"),
            *("--log-level=warning", "--no-access-log"),
        ],
        sign_in=_sign_in_fastapi_users,
        environment={},
    ),
    Peer(
        name="djoser with simplejwt (gunicorn gthread)",
        database="djoser_bench",
        read="/auth/users/me/",
        command=lambda port: [
            *(str(BIN / "gunicorn"), "djoser_app:app", f"--bind=127.0.0.1:{port}", "--workers=2"),
            *("--worker-class=gthread", "--threads=10", "--keep-alive=30", "--log-level=warning"),
        ],
        sign_in=_sign_in_djoser,
        environment={},
        prepare=[str(BIN / "python"), "-m", "djoser_app"],
    ),
    Peer(
        name="better-auth (Node.js)",
        database="better_auth_bench",
        read="/api/auth/get-session",
        command=lambda _port: ["node", str(FOLDER / "better_auth.mjs")],
        sign_in=_sign_in_better_auth,
        environment={"NODE_ENV": "production"},
    ),
    Peer(
        name="the tutorial's app (gunicorn gevent)",
        database="tutorial_bench",
        read="/api/v1/users/",
        command=lambda port: [
            *(str(BIN / "gunicorn"), "tutorial_app:app", f"--bind=127.0.0.1:{port}", "--workers=2"),
            *("--worker-class=gevent", "--worker-connections=2000", "--keep-alive=30", "--log-level=warning"),
        ],
        sign_in=_sign_in_tutorial,
        environment={"TUTORIAL_APP": "1"},
    ),
)
