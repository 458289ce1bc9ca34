"""`manage.py serve` while its workers die, cannot start, or are replaced."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPException
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from apps.commands import server as server_command
from apps.commands import supervisor
from apps.commands.supervisor import NoWorkerStarts, Supervisor
from apps.config import settings
from tests.faults import wait_until
from tests.faults.bench.stores import children
from tests.support import live
from tests.support.people import sign_up_body

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def server(app: Flask, tmp_path: Path) -> Iterator[live.Live]:
    """Two workers."""
    environment = {"DATABASE_URL": settings(app).DATABASE_URL, "REDIS_URL": settings(app).REDIS_URL}
    with live.live_server(tmp_path, "serve", "--workers=2", "--threads=2", **environment) as running:
        wait_until(lambda: running.log.count("worker.ready") == 2, 30)
        yield running


class Load:
    """Clients that send requests until the block ends: each on one kept connection, or on a new one each time."""

    def __init__(self, server: live.Live, clients: int = 4, path: str = "/healthz") -> None:
        self.path = path
        self.port = int(server.url.rpartition(":")[2])
        self.outcomes: Counter[str] = Counter()
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(bool(number % 2),)) for number in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def run(self, is_kept: bool) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self.stop.is_set():
            try:
                connection.request("GET", self.path)
                response = connection.getresponse()
                response.read()
                self.outcomes[str(response.status)] += 1
            except (OSError, HTTPException) as error:
                self.outcomes[type(error).__name__] += 1
                connection.close()
            if not is_kept:
                connection.close()
        connection.close()

    @property
    def failed(self) -> int:
        return self.outcomes.total() - self.outcomes["200"]


@pytest.mark.stores("postgresql")
def test_a_killed_worker_costs_only_the_requests_that_it_held(server: live.Live) -> None:
    """V11: also if workers are killed faster than they start; a client that connects meanwhile waits."""
    clients, kills = 4, 12
    with Load(server, clients) as load:
        for number in range(kills):
            wait_until(lambda: bool(children(server.process.pid)), 30)
            workers = children(server.process.pid)
            os.kill(workers[number % len(workers)], signal.SIGKILL)
            time.sleep(0.5)
        wait_until(lambda: len(children(server.process.pid)) == 2, 30)
        before = load.outcomes["200"]
        wait_until(lambda: load.outcomes["200"] > before + 20, 30)
    assert server.process.poll() is None
    assert load.failed <= kills * clients, load.outcomes


@pytest.mark.stores("postgresql")
def test_hup_replaces_the_workers_and_fails_no_request(server: live.Live) -> None:
    """V11: on new and on kept connections."""
    old = set(children(server.process.pid))
    with Load(server) as load:
        for _ in range(2):
            workers = set(children(server.process.pid))
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda gone=workers: not gone & set(children(server.process.pid)), 60)  # type: ignore[misc]
    assert load.failed == 0, load.outcomes
    assert load.outcomes["200"] > 100
    assert len(set(children(server.process.pid)) - old) == 2


@pytest.mark.stores("postgresql")
def test_a_service_that_stops_refuses_connections_instead_of_letting_them_wait(server: live.Live) -> None:
    """V5: while its workers finish their requests."""
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    head = b"POST /api/v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    with ExitStack() as stack:
        stalled = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(16)]
        for connection in stalled:
            connection.sendall(head)
        time.sleep(0.5)
        server.process.terminate()
        wait_until(lambda: not accepts(address), 5)
        for connection in stalled:
            connection.sendall(b"{}")
            assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert server.process.wait(30) == 0


def accepts(address: tuple[str, int]) -> bool:
    with socket.socket() as client:
        return client.connect_ex(address) == 0


def test_hup_without_redis_ends_the_old_worker_first(tmp_path: Path) -> None:
    """V11, R6: connections wait meanwhile, and none gets 503."""
    with live.live_server(tmp_path, "serve", "--threads=2") as server:
        server.send("POST", "/api/v1/users/", sign_up_body())
        old = children(server.process.pid)
        with Load(server, path="/readyz") as load:
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: server.log.count("worker.ready") == 2, 60)
            before = load.outcomes["200"]
            wait_until(lambda: load.outcomes["200"] > before + 20, 30)
        assert not set(old) & set(children(server.process.pid))
    assert load.failed == 0, load.outcomes


@pytest.mark.stores("postgresql")
def test_after_hup_with_a_wrong_setting_the_old_workers_go_on(server: live.Live) -> None:
    """V11: the reason is printed."""
    workers = set(children(server.process.pid))
    (server.folder / "config.py").write_text("NO_SUCH_SETTING = 1\n")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "worker failed to start" in server.log, 30)
    assert "NO_SUCH_SETTING" in server.log
    time.sleep(1)
    assert workers == set(children(server.process.pid))
    assert live.is_ready(int(server.url.rpartition(":")[2]))


def test_a_service_whose_workers_cannot_start_ends_with_the_reason(tmp_path: Path) -> None:
    """V11: it does not go on to accept connections without answering them."""
    live.checkout(tmp_path)
    (tmp_path / "wsgi.py").write_text("raise SystemExit('no such module: example')\n")
    done = subprocess.run(
        [sys.executable, "manage.py", "serve", f"--port={live.free_port()}"],
        cwd=tmp_path, env=live.unconfigured() | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no such module: example" in done.stderr
    assert "Error: no worker starts" in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def supervised(
    work: Callable[[socket.socket, Connection], None], count: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Yield a function that runs a supervisor with short delays, and restore the signal handlers."""
    monkeypatch.setattr(supervisor, "_FIRST_DELAY", 0.01)
    handlers = {number: signal.getsignal(number) for number in supervisor._SIGNALS}
    try:
        bind = partial(server_command._bind_shared, "127.0.0.1", live.free_port())
        yield Supervisor(work, count, bind, may_overlap=True).run
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_one_worker_that_cannot_start_does_not_end_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """V11: it is tried again, less and less often."""
    first, starts = tmp_path / "first", tmp_path / "starts"
    main = os.getpid()

    def work(_listener: socket.socket, ready: Connection) -> None:
        try:
            first.touch(exist_ok=False)
        except FileExistsError:
            with starts.open("a") as file:
                file.write("x")
            if starts.stat().st_size >= 8:
                os.kill(main, signal.SIGTERM)
            os._exit(3)
        ready.send_bytes(b"1")
        signal.pause()

    with supervised(work, 2, monkeypatch) as run:
        run()
    assert starts.stat().st_size >= 8


def test_workers_that_never_start_end_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """V11: after four tries of each."""
    starts = tmp_path / "starts"

    def work(_listener: socket.socket, _ready: Connection) -> None:
        with starts.open("a") as file:
            file.write("x")
        os._exit(3)

    with supervised(work, 2, monkeypatch) as run, pytest.raises(NoWorkerStarts):
        run()
    assert starts.stat().st_size >= 8
