"""deploy/nginx in front of two real processes of the service, over TLS: what a person who deploys it gets."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask import Flask

from apps import ROOT
from tests.support import live, programs
from tests.support.people import bearer, sign_up_body

pytestmark = [pytest.mark.stores("postgresql"), pytest.mark.timeout(180)]

NGINX = ROOT / "deploy" / "nginx"
MAIN = """daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{}}
http {{
    access_log off;
    {places}
    include {folder}/upstream.conf;
    include {folder}/gatehouse.conf;
}}
"""
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Answer(NamedTuple):
    status: int
    headers: Message
    body: Any


class Front:
    """The public side: requests as a client on the network sends them, over TLS."""

    def __init__(self, port: int, certificate: Path) -> None:
        self.url = f"https://localhost:{port}"
        self.context = ssl.create_default_context(cafile=certificate)

    def send(self, method: str, path: str, token: str = "", body: Any = None, **headers: str) -> Answer:
        headers |= bearer(token) if token else {}
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=30) as response:
                return Answer(response.status, response.headers, json.load(response))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, json.load(error))


class Deployment(NamedTuple):
    front: Front
    start: Any  # (which of the two) -> its server
    servers: dict[int, live.Live]
    take_out: Any  # (which, or None for both in) -> nginx asks the other alone


@pytest.fixture
def deployment(app: Flask, tmp_path: Path) -> Iterator[Deployment]:
    """nginx with the site of deploy/nginx, and two processes behind it, on one database and one Redis."""
    program = programs.skip_unless_installed("nginx")
    ports = [live.free_port() for _ in range(2)]
    environment = {
        "DATABASE_URL": app.config["DATABASE_URL"],
        "REDIS_URL": app.config["REDIS_URL"],
        "GATEHOUSE_TRUSTED_PROXIES": "1",
        **{f"GATEHOUSE_{name}": app.config[name] for name in ("JWT_SECRET_KEY", "FIELD_INDEX_KEY")},
        "GATEHOUSE_FIELD_ENCRYPTION_KEYS": json.dumps(app.config["FIELD_ENCRYPTION_KEYS"]),
        **{f"GATEHOUSE_{name}_LIMIT": "100000/minute" for name in ("SIGN_UP", "LOGIN", "LOGIN_ACCOUNT")},
    }
    servers: dict[int, live.Live] = {}

    def start(which: int) -> None:
        folder = tmp_path / f"process-{which}"
        folder.mkdir(exist_ok=True)
        live.checkout(folder)
        servers[which] = live.start(folder, ports[which], "serve", "--threads=8", **environment)

    with ExitStack() as stack:
        stack.callback(lambda: [live.stop(server.process) for server in servers.values()])
        for which in range(2):
            start(which)
        front = stack.enter_context(nginx(program, tmp_path, ports))

        def take_out(which: int | None) -> None:
            write_upstream(tmp_path, ports, out=which)
            subprocess.run([program, "-c", tmp_path / "nginx.conf", "-s", "reload"], check=True, capture_output=True)
            time.sleep(1)  # nginx's processes of before end what they have begun

        yield Deployment(front, start, servers, take_out)


@contextmanager
def nginx(program: str, folder: Path, ports: list[int]) -> Iterator[Front]:
    """Run nginx on the site's own files; only ports and places are changed."""
    certificate, key = folder / "gatehouse.crt", folder / "gatehouse.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days=1"]
    command += ["-subj=/CN=localhost", "-addext=subjectAltName=DNS:localhost", f"-keyout={key}", f"-out={certificate}"]
    subprocess.run(command, check=True, capture_output=True)
    plain, tls = live.free_port(), live.free_port()
    site = (NGINX / "gatehouse.conf").read_text().replace("/etc/gatehouse/tls", str(folder))
    site = re.sub(r"listen 80;", f"listen 127.0.0.1:{plain};", site)
    site = re.sub(r"listen 443 ", f"listen 127.0.0.1:{tls} ", site)
    (folder / "gatehouse.conf").write_text(site)
    write_upstream(folder, ports)
    places = " ".join(f"{name}_temp_path {folder}/{name};" for name in _TEMPORARY)
    (folder / "nginx.conf").write_text(
        MAIN.format(folder=folder, places=places, user="user root;" if os.geteuid() == 0 else "")
    )
    subprocess.run([program, "-t", "-q", "-c", folder / "nginx.conf"], check=True, capture_output=True, text=True)
    process = subprocess.Popen([program, "-c", folder / "nginx.conf"])
    try:
        front = Front(tls, certificate)
        wait_until_open(tls)
        yield front
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(20)


def write_upstream(folder: Path, ports: list[int], out: int | None = None) -> None:
    upstream = (NGINX / "upstream-local.conf").read_text()
    for which, port in enumerate(ports):
        down = " down" if which == out else ""
        upstream = re.sub(rf":500{which} ([^;]*);", rf":{port} \1{down};", upstream)
    (folder / "upstream.conf").write_text(upstream)


def wait_until_open(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("nginx does not listen")


def test_two_processes_behind_nginx_are_one_service(deployment: Deployment) -> None:
    """K1: what one process wrote the other reads, and a logout at one holds at the other."""
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
    """The address is nginx's word, X-Forwarded-For from outside is dropped; so is a request id."""
    front = deployment.front
    claims = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http", "X-Request-ID": "forged-by-me-1"}
    data = front.send("POST", "/api/v1/users/", body=sign_up_body(), **claims).body["data"]
    (session,) = front.send("GET", "/api/v1/sessions", data["access_token"]).body["data"]["data"]
    assert session["address"] == "127.0.0.1"
    logs = "".join(server.log for server in deployment.servers.values())
    assert "203.0.113.9" not in logs
    assert "forged-by-me-1" not in logs


def test_nginx_refuses_in_the_envelope(deployment: Deployment, tmp_path: Path) -> None:
    """I4: too large for the service, too large for nginx, nobody there: always the same shape."""
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


def test_a_killed_process_is_not_noticed(deployment: Deployment) -> None:
    """V4: nginx goes on with the other one."""
    front = deployment.front
    token = front.send("POST", "/api/v1/users/", body=sign_up_body()).body["data"]["access_token"]
    deployment.servers[0].process.kill()
    deployment.servers[0].process.wait()
    assert {front.send("GET", "/api/v1/users/", token).status for _ in range(10)} == {200}


def test_a_rolling_restart_fails_no_request(deployment: Deployment) -> None:
    """V5: each process in turn is taken out, stopped with SIGTERM and started again, under load."""
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
