"""A live server: `manage.py run` or `manage.py serve` in its own process, with its own instance folder."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from apps.about import ROOT
from tests.support.people import bearer

_TIMEOUT = 30  # seconds; a start takes one or two, but the other xdist workers use the cores too


@dataclass
class Live:
    """A server at `url`. Its log and its instance folder are in `folder`."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text()

    def send(self, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        """Return the status and the envelope of the answer."""
        headers = {"Content-Type": "application/json"} | (bearer(token) if token else {})
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@contextmanager
def live_server(
    folder: Path, command: str = "run", *options: str, probe: str = "/readyz", **environment: str
) -> Iterator[Live]:
    """Start `manage.py <command> <options>` on a free port, with no configuration but `environment`."""
    checkout(folder)
    live = start(folder, free_port(), command, *options, probe=probe, **environment)
    try:
        yield live
    finally:
        stop(live.process)


def start(folder: Path, port: int, command: str, *options: str, probe: str = "/readyz", **environment: str) -> Live:
    """Start `manage.py <command> <options>` in a folder that `checkout` prepared. Return when `probe` answers 200."""
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", command, f"--port={port}", *options],
            cwd=folder,
            env=unconfigured() | environment,
            stdout=log,
            stderr=log,
        )
    live = Live(f"http://127.0.0.1:{port}", process, folder)
    try:
        wait_until_ready(live, port, probe)
    except BaseException:
        stop(process)
        raise
    return live


def checkout(folder: Path) -> None:
    """Link this code into `folder`, so that a server has its instance/ there."""
    for name in ("apps", "migrations"):
        link = folder / name
        if not link.exists():
            link.symlink_to(ROOT / name)
    for name in ("manage.py", "wsgi.py"):  # copied: Python resolves a link to a script before it looks for `apps`
        shutil.copy(ROOT / name, folder)


def unconfigured() -> dict[str, str]:
    """Return the environment without the variables that configure the service."""
    configures = ("GATEHOUSE_", "DATABASE_URL", "REDIS_URL", "FLASK_")
    return {name: value for name, value in os.environ.items() if not name.startswith(configures)}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_until_ready(live: Live, port: int, probe: str = "/readyz") -> None:
    deadline = time.monotonic() + _TIMEOUT
    while not is_ready(port, probe):
        assert live.process.poll() is None, f"the server ended before it answered:\n{live.log}"
        assert time.monotonic() < deadline, f"the server does not answer:\n{live.log}"
        time.sleep(0.05)


def is_ready(port: int, probe: str = "/readyz") -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", probe)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
