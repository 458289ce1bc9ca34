"""What `run` and `serve` tell at the start, and the address that they print."""

import errno
import json
import os
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import click
import pytest

from apps import create_app
from apps.commands import server
from tests.support import live
from tests.unit.test_settings import GOOD


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=folder, env=live.unconfigured(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def get(url: str, path: str) -> tuple[int, str | None]:
    """Return the status and the Location of an answer, without following it."""
    connection = HTTPConnection("127.0.0.1", port_of(url), timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.getheader("Location")
    finally:
        connection.close()


def test_the_front_page_of_development_leads_to_the_documentation_that_run_prints(tmp_path: Path) -> None:
    with live.live_server(tmp_path) as running:
        assert get(running.url, "/") == (303, "/api/v1/docs")
        assert get(running.url, "/api/v1/docs")[0] == 200
        assert f"Documentation: {running.url}/api/v1/docs\n" in running.log


def test_serve_prints_only_log_lines(tmp_path: Path) -> None:
    """No warning about the number of threads, which is the service's own."""
    with live.live_server(tmp_path, "serve", "--threads=64") as running:
        pass
    lines = [json.loads(line) for line in running.log.splitlines()]
    assert {line["event"] for line in lines} == {"serve.start", "worker.ready", "request"}
    assert lines[0]["url"] == running.url


def test_production_has_no_front_page() -> None:
    response = create_app("production", **GOOD).test_client().get("/")
    assert response.status_code == 404
    assert response.get_json()["error"]["type"] == "not_found"


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("127.0.0.1", 5000, "http://127.0.0.1:5000"),
        ("0.0.0.0", 80, "http://127.0.0.1:80"),
        ("::", 5000, "http://[::1]:5000"),
        ("2001:db8::1", 5000, "http://[2001:db8::1]:5000"),
    ],
)
def test_a_browser_on_this_machine_can_open_the_printed_address(host: str, port: int, url: str) -> None:
    assert server._url(host, port) == url


def test_port_0_is_replaced_by_a_free_port() -> None:
    assert server._free_port("127.0.0.1", 0) > 0


@pytest.mark.parametrize("command", ["run", "serve"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_busy_port_ends_the_start_with_one_line_that_names_the_option(
    tmp_path: Path, command: str, host: str
) -> None:
    live.checkout(tmp_path)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if family == socket.AF_INET6 and not has_ipv6():
        pytest.skip("no IPv6 here")
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        done = start(tmp_path, command, f"--host={host}", f"--port={port}")
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: cannot listen on {host}, port {port}: Address already in use. Choose another port with --port.\n"
    )


@pytest.mark.parametrize(
    ("host", "number", "option"),
    [
        ("127.0.0.1", errno.EADDRINUSE, "--port"),
        ("127.0.0.1", errno.EACCES, "--port"),  # below 1024, without the right
        ("203.0.113.1", errno.EADDRNOTAVAIL, "--host"),  # an address of another machine
        ("::1", errno.EAFNOSUPPORT, "--host"),  # a machine without IPv6
        ("fe80::1%none", socket.EAI_NONAME, "--host"),  # an unknown interface
    ],
)
def test_each_reason_names_the_option_that_helps(
    monkeypatch: pytest.MonkeyPatch, host: str, number: int, option: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(click.ClickException, match=f"Choose another .* with {option}") as raised:
        server._free_port(host, 80)
    assert raised.value.exit_code == 1


@pytest.mark.parametrize("command", ["run", "serve"])
def test_a_second_server_on_the_same_file_says_so(tmp_path: Path, command: str) -> None:
    """Its port is free, so it starts; until the first one ends, it answers 503."""
    warning = f"warning: another process serves the database {tmp_path}/instance/gatehouse.sqlite3."
    with live.live_server(tmp_path, "run") as first:
        assert "warning: another process" not in first.log
        second = live.start(tmp_path, live.free_port(), command, probe="/healthz")
        try:
            assert warning in second.log
            status, answer = second.send("GET", "/readyz")
            assert (status, answer["error"]["type"]) == (503, "not_ready")
            assert first.send("GET", "/readyz")[0] == 200
        finally:
            live.stop(second.process)
        assert warning in start(tmp_path, "run", f"--port={port_of(first.url)}").stderr  # the usual second start
