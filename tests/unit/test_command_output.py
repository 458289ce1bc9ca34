"""The streams of `manage.py`: results on stdout, so that scripts can read them, and log lines on stderr."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import live


def test_the_secret_of_a_client_is_all_that_stands_on_stdout(tmp_path: Path) -> None:
    """L2: the audit line goes to stderr."""
    live.checkout(tmp_path)
    upgrade, add = (
        subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=tmp_path, env=live.unconfigured(), capture_output=True, text=True, check=True,
        )
        for arguments in (["db", "upgrade"], ["clients", "add", "orders", "--scope=introspect"])
    )  # fmt: skip
    assert upgrade.stdout == ""
    assert [line.split()[:2] for line in add.stdout.splitlines()] == [["client", "id"], ["client", "secret"]]
    assert [json.loads(line)["event"] for line in add.stderr.splitlines()] == ["client.add"]


def read_screen(screen: int) -> str:
    """Return what a terminal shows now."""
    os.set_blocking(screen, False)
    try:
        return os.read(screen, 65536).decode()
    except OSError:  # nothing
        return ""
    finally:
        os.close(screen)


def test_a_terminal_shows_the_answer_of_a_command_alone(tmp_path: Path) -> None:
    """The audit line is for a log file. The event is in the audit in any case."""
    live.checkout(tmp_path)
    said = {}
    for arguments in (["db", "upgrade"], ["clients", "add", "orders", "--scope=revoke"], ["audit", "verify"]):
        screen, terminal = pty.openpty()
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=tmp_path, env=live.unconfigured(), stdout=subprocess.PIPE, stderr=terminal, text=True, check=True,
        )  # fmt: skip
        said[arguments[0]] = done.stdout, read_screen(screen)
        os.close(terminal)
    assert "{" not in said["clients"][0] + said["clients"][1]
    assert said["clients"][0].startswith("client id")
    assert "1 " in said["audit"][0]


@contextmanager
def stdout_of(command: str, folder: Path) -> Iterator[Path]:
    """Run a server and keep its stdout; its stderr is discarded."""
    live.checkout(folder)
    port, stdout = live.free_port(), folder / "stdout"
    with stdout.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", command, f"--port={port}"],
            cwd=folder, env=live.unconfigured(), stdout=output, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        live.wait_until_ready(live.Live("", process, folder), port)
        yield stdout
    finally:
        live.stop(process)


@pytest.mark.parametrize("command", ["run", "serve"])
def test_a_server_logs_on_stdout(tmp_path: Path, command: str) -> None:
    """L2."""
    with stdout_of(command, tmp_path) as stdout:
        lines = [json.loads(line) for line in stdout.read_text().splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert {line["route"] for line in requests} == {"/readyz"}
    assert {line["event"] for line in lines} <= {"request", "serve.start", "worker.ready"}
