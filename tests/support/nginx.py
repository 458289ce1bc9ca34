"""A real nginx with the site of deploy/nginx; only ports and paths are changed."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

from apps.about import ROOT
from tests.support import live
from tests.support.people import bearer

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
PAGES = """
server {{
    listen 127.0.0.1:{tls} ssl http2;
    server_name app.example.test evil.example.test;
    ssl_certificate     {folder}/gatehouse.crt;
    ssl_certificate_key {folder}/gatehouse.key;
    root {pages};
    types {{ text/html html; text/javascript js; }}
}}
"""
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Answer(NamedTuple):
    status: int
    headers: Message
    body: Any


class Front:
    """The public side of nginx: sends requests over TLS, as a client on the network does."""

    def __init__(self, plain: int, port: int, certificate: Path) -> None:
        self.plain, self.port = plain, port
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


@contextmanager
def nginx(program: str, folder: Path, ports: list[int], pages: Path | None = None) -> Iterator[Front]:
    """Run nginx in front of two processes of the service that listen on `ports`.

    The files of the folder `pages` are at https://app.example.test and https://evil.example.test; every other host is
    the service.
    """
    certificate, key = folder / "gatehouse.crt", folder / "gatehouse.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days=1"]
    command += ["-subj=/CN=localhost", "-addext=subjectAltName=DNS:localhost", f"-keyout={key}", f"-out={certificate}"]
    subprocess.run(command, check=True, capture_output=True)
    plain, tls = live.free_port(), live.free_port()
    site = (NGINX / "gatehouse.conf").read_text().replace("/etc/gatehouse/tls", str(folder))
    site = re.sub(r"listen 80;", f"listen 127.0.0.1:{plain};", site)
    site = re.sub(r"listen 443 ", f"listen 127.0.0.1:{tls} ", site)
    site += PAGES.format(tls=tls, folder=folder, pages=pages) if pages else ""
    (folder / "gatehouse.conf").write_text(site)
    write_upstream(folder, ports)
    places = " ".join(f"{name}_temp_path {folder}/{name};" for name in _TEMPORARY)
    (folder / "nginx.conf").write_text(
        MAIN.format(folder=folder, places=places, user="user root;" if os.geteuid() == 0 else "")
    )
    subprocess.run([program, "-t", "-q", "-c", folder / "nginx.conf"], check=True, capture_output=True, text=True)
    process = subprocess.Popen([program, "-c", folder / "nginx.conf"])
    try:
        wait_until_open(tls)
        yield Front(plain, tls, certificate)
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
