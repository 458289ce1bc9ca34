"""`manage.py serve` is one main process and its workers: none serves on without the other, none beside another."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import live

pytestmark = pytest.mark.timeout(120)


def port_of(server: live.Live) -> int:
    return int(server.url.rpartition(":")[2])


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_workers_end_when_the_main_process_is_killed(tmp_path: Path) -> None:
    """V4: kill -9 of the main process leaves no worker behind that nobody can stop, and that answers old code."""
    with live.live_server(tmp_path, "serve") as server:
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        deadline = time.monotonic() + 20
        while listens(port_of(server)):
            assert time.monotonic() < deadline, "a worker goes on"
            time.sleep(0.1)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_second_serve_does_not_share_the_port(tmp_path: Path, host: str) -> None:
    """R6: it would take every other request, with other settings or other code, and nobody would know why."""
    with live.live_server(tmp_path, "serve") as server:
        port = port_of(server)
        done = subprocess.run(
            [sys.executable, "manage.py", "serve", f"--host={host}", f"--port={port}"],
            cwd=tmp_path, env=live.unconfigured(), capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert f"cannot listen on {host}, port {port}: Address already in use" in done.stderr
        assert live.is_ready(port)
    live.stop(live.start(tmp_path, port, "serve").process)  # connections of before are no hindrance
