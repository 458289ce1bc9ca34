"""The streams of `manage.py`: results on stdout, so that scripts can read them, and log lines on stderr."""

import json
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
        lines = [json.loads(line) for line in stdout.read_text().splitlines() if line.startswith("{")]
    assert {(line["event"], line["route"]) for line in lines} == {("request", "/readyz")}
