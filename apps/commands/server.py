"""Serving: the development server and the one for production."""

import functools
import os
import signal
import socket
import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from ipaddress import ip_address
from typing import Any
from wsgiref.types import WSGIApplication

import click
from flask import Flask, current_app
from flask.cli import with_appcontext
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import default_exceptions
from werkzeug.serving import WSGIRequestHandler, run_simple

from apps.about import ROOT
from apps.config import settings
from apps.database.engine import most_connections
from apps.database.migrations import migrate_embedded
from apps.extensions import db
from apps.http.headers import HEADERS
from apps.observability import logs

_LAST_REQUESTS = 30  # seconds that a worker has to answer what it has begun


class IpAddress(click.ParamType[str]):
    """An address, not a name: a name may have several, and the server listens on one."""

    name = "address"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it as it is."""
        try:
            ip_address(value)
        except ValueError:
            self.fail(f"{value!r} is not an address such as 127.0.0.1 or ::1", param, ctx)
        return value


class QuietHandler(WSGIRequestHandler):
    """Werkzeug's, without its log line (ours says more) and without its version in every answer."""

    def log_request(self, *_args: Any) -> None:
        """Leave it to apps/observability/logs.py."""

    def version_string(self) -> str:
        """Return the Server header."""
        return "gatehouse"

    def send_error(self, code: int, *_said: Any, **_by_name: Any) -> None:
        """Refuse in the envelope what is no HTTP; what was sent is neither told nor logged, for it may hold a token."""
        app: Flask = self.server.app  # type: ignore[assignment]
        with app.test_request_context():
            response = app.make_response(app.handle_user_exception(default_exceptions[code]()))
        self.request_version = self.protocol_version  # a line that names none would get no headers
        self.send_response(code)
        for name, value in (*HEADERS.items(), *response.headers, ("Connection", "close")):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.get_data())


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, type=IpAddress(), help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option("--reload/--no-reload", default=False, help="Start again when a source file changes.")
@with_appcontext
def run(host: str, port: int, reload: bool) -> None:
    """Serve on this machine, for development.

    Without DATABASE_URL the SQLite file under instance/ is made and migrated first.
    """
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    migrate_embedded(app)
    logs.configure(settings(app).LOG_LEVEL)  # on stdout, as the workers of `serve` do
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as the first process of a container it would be ignored
    run_simple(host, port, app, threaded=True, use_reloader=reload, request_handler=QuietHandler)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, type=IpAddress(), help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes; one per core is a good start."
)
@click.option(
    "--threads",
    default=8,
    show_default=True,
    type=click.IntRange(1),
    help="Threads of each process. Two of them neither wait to hash nor for the database.",
)
@with_appcontext
def serve(host: str, port: int, workers: int, threads: int) -> None:
    """Serve for production, with granian.

    SIGTERM and Ctrl-C stop it after the requests under way are answered. More than one worker needs REDIS_URL.

    Put a proxy in front that hands on whole request bodies only, as deploy/nginx does: here, a client that stalls in
    the middle of one holds a thread.
    """
    if workers > 1 and not settings().REDIS_URL:
        raise click.UsageError(
            "more than one worker needs REDIS_URL: without it each process would cache for itself alone"
        )
    _refuse_taken_address(host, port)
    _warn_of_too_few_connections(workers)
    from granian import Granian
    from granian.constants import Interfaces

    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    server = Granian(
        "wsgi:app",
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=threads,
        respawn_failed_workers=True,
        workers_kill_timeout=_LAST_REQUESTS,
        websockets=False,
    )
    with _shared_metrics():
        environment = _worker_environment(workers, threads)
        server.serve(target_loader=functools.partial(_load_in_worker, os.getpid(), environment))


def _worker_environment(workers: int, threads: int) -> dict[str, str]:
    """Return what follows from the numbers: neither a flood of logins nor a database that hangs takes every thread."""
    config, most = settings(), max(threads - 2, 1)
    values = {
        "PROCESSES": max(config.PROCESSES, workers),
        "DATABASE_POOL_SIZE": min(config.DATABASE_POOL_SIZE, most),
        "PASSWORD_HASH_QUEUE": min(config.PASSWORD_HASH_QUEUE, max(most - config.PASSWORD_HASH_CONCURRENCY, 0)),
    }
    return {f"GATEHOUSE_{name}": str(value) for name, value in values.items()}


def _refuse_taken_address(host: str, port: int) -> None:
    """Granian's workers share their port (SO_REUSEPORT), and would share it with another service as well."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as there may be connections of a service before
        try:
            probe.bind((host, port))
        except OSError as error:
            raise click.UsageError(f"cannot listen on {host}, port {port}: {error.strerror}") from None


def _load_in_worker(main_process: int, environment: dict[str, str], _target: str) -> WSGIApplication:
    """Return the application to a worker, which from now on ends when the main process is gone."""
    os.environ.update(environment)
    threading.Thread(target=_end_with, args=(main_process,), daemon=True).start()
    from wsgi import app

    return app


def _end_with(main_process: int) -> None:
    """Do what the main process can do no more after a SIGKILL: stop this worker, which would serve on for ever."""
    while os.getppid() == main_process:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_LAST_REQUESTS)
    os.kill(os.getpid(), signal.SIGKILL)


def _warn_of_too_few_connections(workers: int) -> None:
    wanted = workers * settings().DATABASE_POOL_SIZE
    try:
        allowed = most_connections(db.engine)
    except OperationalError:  # it may come later, as may /readyz
        return
    finally:
        db.engine.dispose()  # no connection is handed to a worker
    if allowed is not None and wanted > allowed:
        click.echo(
            f"warning: {workers} workers x DATABASE_POOL_SIZE may open {wanted} connections, "
            f"and the database allows {allowed}",
            err=True,
        )


def _shared_metrics() -> AbstractContextManager[None]:
    """Have the workers count together, if they count at all."""
    if not settings().METRICS_TOKEN:
        return nullcontext()
    from apps.observability.metrics import shared_by_processes

    return shared_by_processes()
