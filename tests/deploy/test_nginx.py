"""deploy/nginx in front of two real processes of the service, over TLS."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask import Flask

from apps.config import settings
from apps.http.headers import HEADERS
from tests.faults.bench.stores import children
from tests.support import live, programs
from tests.support.nginx import Answer, Front, nginx, write_upstream
from tests.support.people import sign_up_body

pytestmark = [pytest.mark.stores("postgresql"), pytest.mark.timeout(180)]

THREADS = 8


class Deployment(NamedTuple):
    front: Front
    start: Any  # (process number): starts it
    servers: dict[int, live.Live]
    take_out: Any  # (process number, or None for neither): nginx uses the other one only


@pytest.fixture
def deployment(app: Flask, tmp_path: Path) -> Iterator[Deployment]:
    """nginx with the site of deploy/nginx and two processes that share one database and one Redis."""
    program = programs.skip_unless_installed("nginx")
    ports = [live.free_port() for _ in range(2)]
    environment = {
        "DATABASE_URL": settings(app).DATABASE_URL,
        "REDIS_URL": settings(app).REDIS_URL,
        "GATEHOUSE_TRUSTED_PROXIES": "1",
        **{f"GATEHOUSE_{name}": getattr(settings(app), name) for name in ("JWT_SECRET_KEY", "FIELD_INDEX_KEY")},
        "GATEHOUSE_FIELD_ENCRYPTION_KEYS": json.dumps(settings(app).FIELD_ENCRYPTION_KEYS),
        **{f"GATEHOUSE_{name}_LIMIT": "100000/minute" for name in ("SIGN_UP", "LOGIN", "LOGIN_ACCOUNT")},
    }
    servers: dict[int, live.Live] = {}

    def start(which: int) -> None:
        folder = tmp_path / f"process-{which}"
        folder.mkdir(exist_ok=True)
        live.checkout(folder)
        servers[which] = live.start(folder, ports[which], "serve", f"--threads={THREADS}", **environment)

    with ExitStack() as stack:
        stack.callback(lambda: [live.stop(server.process) for server in servers.values()])
        for which in range(2):
            start(which)
        front = stack.enter_context(nginx(program, tmp_path, ports))

        def take_out(which: int | None) -> None:
            write_upstream(tmp_path, ports, out=which)
            subprocess.run([program, "-c", tmp_path / "nginx.conf", "-s", "reload"], check=True, capture_output=True)
            time.sleep(1)  # the previous workers of nginx finish their requests

        yield Deployment(front, start, servers, take_out)


def test_two_processes_behind_nginx_are_one_service(deployment: Deployment) -> None:
    """K4, R6: each process sees the writes and logouts of the other."""
    front = deployment.front
    signed_up = front.send("POST", "/api/v1/users/", body=sign_up_body()).body["data"]
    token = signed_up["access_token"]
    reads = [front.send("GET", "/api/v1/users/", token) for _ in range(6)]
    assert {(read.status, read.body["data"]["id"]) for read in reads} == {(200, signed_up["id"])}
    assert reads[0].headers["Strict-Transport-Security"].startswith("max-age=31536000")
    asked = [server.log.count('"/api/v1/users/"') for server in deployment.servers.values()]
    assert min(asked) >= 2, "nginx asked one process alone"
    assert front.send("POST", "/api/v1/logout", token, body={}).status == 200
    assert {front.send("GET", "/api/v1/users/", token).status for _ in range(4)} == {401}


def test_a_client_cannot_say_where_it_comes_from(deployment: Deployment) -> None:
    """nginx sets the address. X-Forwarded-For and X-Request-ID of the client are dropped."""
    front = deployment.front
    claims = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http", "X-Request-ID": "forged-by-me-1"}
    data = front.send("POST", "/api/v1/users/", body=sign_up_body(), **claims).body["data"]
    (session,) = front.send("GET", "/api/v1/sessions", data["access_token"]).body["data"]["data"]
    assert session["address"] == "127.0.0.1"
    logs = "".join(server.log for server in deployment.servers.values())
    assert "203.0.113.9" not in logs
    assert "forged-by-me-1" not in logs


def test_nginx_refuses_in_the_envelope(deployment: Deployment, tmp_path: Path) -> None:
    """Too large for the service, too large for nginx, or no process left: the answer has the same shape."""
    front = deployment.front
    for size in (100_000, 2_000_000):
        refused = front.send("POST", "/api/v1/users/", body=b'"' + b"x" * size + b'"')
        assert (refused.status, refused.body["code"], refused.body["error"]["type"]) == (
            413,
            413,
            "request_entity_too_large",
        )
    for server in deployment.servers.values():
        live.stop(server.process)
    gone = front.send("GET", "/api/v1/users/", "x")
    assert (gone.status, gone.body["error"]["type"], gone.headers["Retry-After"]) == (503, "service_unavailable", "1")
    assert set(gone.body) == {"code", "data", "error", "message", "state"}


def exchange(port: int, request: bytes, tls: Front | None = None) -> Answer:
    """Send bytes that no HTTP client sends."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
        connection = tls.context.wrap_socket(plain, server_hostname="localhost") if tls else plain
        with connection:
            connection.sendall(request)
            response = HTTPResponse(connection)
            response.begin()
            return Answer(response.status, response.headers, json.load(response))


HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
UNREADABLE = {
    "a header of 9 kB": (HEAD + b"X: " + b"x" * 9_000 + b"\r\n\r\n", 431, "request_header_fields_too_large"),
    "a path of 9 kB": (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\n\r\n", 414, "request_uri_too_long"),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
    "no HTTP": (b"\x00\r\n\r\n", 400, "bad_request"),
    "another HTTP": (b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", 505, "http_version_not_supported"),
    "another framing": (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501, "not_implemented"),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501, "not_implemented"),
    "the place of the refusals": (b"GET /refused HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "not_found"),
}


def test_what_nginx_cannot_read_it_refuses_in_the_envelope(deployment: Deployment) -> None:
    """I6: with the headers of the service, and without nginx's version."""
    front = deployment.front
    for name, (request, status, type_) in UNREADABLE.items():
        refused = exchange(front.port, request, front)
        assert (name, refused.status, refused.body["code"]) == (name, status, status)
        assert refused.body["error"]["type"] == type_
        assert HEADERS.items() <= dict(refused.headers).items()
        assert refused.headers["Server"] == "nginx"
        assert set(refused.body) == {"code", "data", "error", "message", "state"}


def test_whoever_speaks_no_tls_is_told_to(deployment: Deployment) -> None:
    """I6: without TLS on the TLS port, and for any request on the other port. No version is revealed."""
    front = deployment.front
    wild = [UNREADABLE[name][0] for name in ("a path of 9 kB", "a header of 9 kB", "no Host", "no HTTP", "TRACE")]
    for port, request in ((front.port, HEAD + b"\r\n"), *((front.plain, sent) for sent in (HEAD + b"\r\n", *wild))):
        refused = exchange(port, request)
        assert (refused.status, refused.body["error"]["type"]) == (403, "https_required")
        assert (refused.headers["Server"], refused.headers["Content-Type"]) == ("nginx", "application/json")
        assert (refused.headers["Cache-Control"], refused.headers["X-Content-Type-Options"]) == ("no-store", "nosniff")


def test_slow_clients_hold_no_thread_of_the_service(deployment: Deployment) -> None:
    """V9: nginx buffers bodies, so even more stalled clients than threads do no harm."""
    front = deployment.front
    signed_up = sign_up_body()
    token = front.send("POST", "/api/v1/users/", body=signed_up).body["data"]["access_token"]
    head = f"POST /api/v1/logout HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    stalled = f"{head}Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{{".encode()
    with ExitStack() as stack:
        for _ in range(2 * THREADS + 4):
            plain = socket.create_connection(("127.0.0.1", front.port), timeout=30)
            connection = stack.enter_context(front.context.wrap_socket(plain, server_hostname="localhost"))
            connection.sendall(stalled)
        login = {name: signed_up[name] for name in ("username", "password")}
        assert {front.send("POST", "/api/v1/login", body=login).status for _ in range(4)} == {200}
        for server in deployment.servers.values():
            assert live.is_ready(int(server.url.rpartition(":")[2]))
            assert '"/api/v1/logout"' not in server.log


def test_a_killed_process_is_not_noticed(deployment: Deployment, tmp_path: Path) -> None:
    """V4: nginx gets no connection to the killed process and uses the other one."""
    front, (killed, other) = deployment.front, deployment.servers.values()
    token = front.send("POST", "/api/v1/users/", body=sign_up_body()).body["data"]["access_token"]
    for process in (killed.process.pid, *children(killed.process.pid)):  # all, or a worker would serve on for a while
        os.kill(process, signal.SIGKILL)
    killed.process.wait()
    before = other.log.count('"/api/v1/users/"')
    assert {front.send("GET", "/api/v1/users/", token).status for _ in range(10)} == {200}
    assert other.log.count('"/api/v1/users/"') == before + 10
    assert f'upstream: "{killed.url}/' in (tmp_path / "error.log").read_text()  # nginx logs it


def test_a_rolling_restart_fails_no_request(deployment: Deployment) -> None:
    """V5: under load, each process is taken out, stopped with SIGTERM and started again."""
    front = deployment.front
    token = front.send("POST", "/api/v1/users/", body=sign_up_body()).body["data"]["access_token"]
    stop, statuses = threading.Event(), Counter[int]()

    def load() -> None:
        while not stop.is_set():
            statuses[front.send("GET", "/api/v1/users/", token).status] += 1
            statuses[front.send("POST", "/api/v1/users/", body=sign_up_body()).status] += 1

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for which in (0, 1):
        deployment.take_out(which)
        live.stop(deployment.servers[which].process)
        deployment.start(which)
        deployment.take_out(None)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}
    assert statuses[200] > 10
