"""`manage.py serve`: workers end with their main process, and two services never share a port."""

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
    """V4: after kill -9 of the main process, no worker remains that runs old code and has no parent to stop it."""
    with live.live_server(tmp_path, "serve") as server:
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        deadline = time.monotonic() + 20
        while listens(port_of(server)):
            assert time.monotonic() < deadline, "a worker still listens"
            time.sleep(0.1)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_second_serve_does_not_share_the_port(tmp_path: Path, host: str) -> None:
    """R6: otherwise it would take every other request, with other settings or code, without any hint of the cause."""
    with live.live_server(tmp_path, "serve") as server:
        port = port_of(server)
        done = subprocess.run(
            [sys.executable, "manage.py", "serve", f"--host={host}", f"--port={port}"],
            cwd=tmp_path, env=live.unconfigured(), capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert f"cannot listen on {host}, port {port}: Address already in use" in done.stderr
        assert live.is_ready(port)
    live.stop(live.start(tmp_path, port, "serve").process)  # old connections do not block the port
