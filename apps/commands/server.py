"""Commands that serve: `run` for development, `serve` for production."""

import errno
import functools
import logging
import os
import signal
import socket
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from ipaddress import ip_address
from typing import Any

import click
from flask import Flask, current_app
from flask.cli import with_appcontext
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import default_exceptions
from werkzeug.serving import WSGIRequestHandler, is_running_from_reloader, run_simple

from apps.about import ROOT
from apps.cache.single_process import SingleProcess
from apps.config import settings
from apps.database import revision
from apps.database.engine import max_connections
from apps.database.migrations import migrate_embedded
from apps.errors import NoSigningKey
from apps.extensions import db
from apps.http.headers import HEADERS
from apps.observability import logs
from apps.services.health import find_revision
from apps.services.key import require_signing_key
from apps.settings.urls import redact, secrets_of

logger = logging.getLogger(__name__)


class IpAddress(click.ParamType[str]):
    """An IP address. A host name is refused: it may have several addresses, and the server listens on one."""

    name = "address"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return `value` unchanged, or fail."""
        try:
            ip_address(value)
        except ValueError:
            self.fail(f"{value!r} is not an IP address such as 127.0.0.1 or ::1", param, ctx)
        return value


class QuietHandler(WSGIRequestHandler):
    """Werkzeug's handler without its log line and without its version in the Server header."""

    def log_request(self, *_args: Any) -> None:
        """Do nothing: apps/observability/logs.py logs every request."""

    def version_string(self) -> str:
        """Return the Server header."""
        return "gatehouse"

    def send_error(self, code: int, *_message: Any, **_by_name: Any) -> None:
        """Answer invalid HTTP with the envelope. The input is neither returned nor logged: it may contain a token."""
        app: Flask = self.server.app  # type: ignore[assignment]
        with app.test_request_context():
            response = app.make_response(app.handle_user_exception(default_exceptions[code]()))
        self.request_version = self.protocol_version  # without a version no headers would be sent
        self.send_response(code)
        for name, value in (*HEADERS.items(), *response.headers, ("Connection", "close")):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.get_data())


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, type=IpAddress(), help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option("--reload/--no-reload", default=False, help="Restart when a source file changes.")
@with_appcontext
def run(host: str, port: int, reload: bool) -> None:
    """Serve on this machine, for development.

    Without DATABASE_URL, the command first creates and migrates the SQLite file under instance/.
    """
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    if not is_running_from_reloader():  # the reloader's child gets the socket of its parent
        _warn_of_another_process(app)
        port = _free_port(host, port)
        click.echo(f"Documentation: {_url(host, port)}/api/v1/docs", err=True)
    migrate_embedded(app)
    _warn_of_old_tables()
    logs.configure(settings(app))  # on stdout, like the workers of `serve`
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # process 1 of a container ignores it by default
    run_simple(host, port, app, threaded=True, use_reloader=reload, request_handler=QuietHandler)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, type=IpAddress(), help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1), help="Worker processes; start with one per core."
)
@click.option(
    "--threads",
    default=8,
    show_default=True,
    type=click.IntRange(1),
    help="Threads per process. Two of them never wait for a hash or the database.",
)
@with_appcontext
def serve(host: str, port: int, workers: int, threads: int) -> None:
    """Serve for production, with granian.

    SIGTERM and Ctrl-C stop the server after the running requests are answered. SIGHUP replaces the workers, one after
    the other, and no request fails. More than one worker requires REDIS_URL.
    """
    if workers > 1 and not settings().REDIS_URL:
        raise click.UsageError(
            "more than one worker requires REDIS_URL: otherwise each process would have a cache of its own"
        )
    _warn_of_another_process(current_app._get_current_object())  # type: ignore[attr-defined]
    port = _free_port(host, port)
    _warn_of_database(workers)
    from apps.commands.supervisor import NoWorkerStarts, Supervisor
    from apps.commands.worker import Options, run_worker

    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    logs.configure(settings())  # on stdout, like the workers
    logger.info("listening", extra={"event": "serve.start", "url": _url(host, port)})
    with _shared_metrics():
        options = Options(os.getpid(), workers, threads, _worker_environment(workers, threads))
        work, bind = functools.partial(run_worker, options), functools.partial(_bind_shared, host, port)
        may_overlap = bool(settings().REDIS_URL)  # without Redis, only one process may serve (R6)
        try:
            Supervisor(work, workers, bind, may_overlap=may_overlap).run()
        except NoWorkerStarts:
            raise click.ClickException("no worker starts; the lines above say why") from None


def _worker_environment(workers: int, threads: int) -> dict[str, str]:
    """Return environment variables for a worker: neither hashes nor a hung database may take all its threads."""
    config, limit = settings(), max(threads - 2, 1)
    values = {
        "PROCESSES": max(config.PROCESSES, workers),
        "DATABASE_POOL_SIZE": min(config.DATABASE_POOL_SIZE, limit),
        "PASSWORD_HASH_QUEUE": min(config.PASSWORD_HASH_QUEUE, max(limit - config.PASSWORD_HASH_CONCURRENCY, 0)),
    }
    return {f"GATEHOUSE_{name}": str(value) for name, value in values.items()}


def _free_port(host: str, port: int) -> int:
    """Return `port`, or a free one for 0. Raises `ClickException` if a server cannot listen there.

    The workers of `serve` themselves would share a port in use with those of another service (`_bind_shared`).
    """
    try:
        with socket.socket(_family(host)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ignores connections of a previous service
            probe.bind((host, port))
            bound: int = probe.getsockname()[1]
            return bound
    except OSError as error:
        what = "port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "host"
        raise click.ClickException(
            f"cannot listen on {host}, port {port}: {error.strerror}. Choose another {what} with --{what}."
        ) from None


def _bind_shared(host: str, port: int) -> socket.socket:
    """Return a socket that shares the port with the others of this service, and does not listen yet."""
    listener = socket.socket(_family(host))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    return listener


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _url(host: str, port: int) -> str:
    """Return the URL of a server for a browser on this machine, also if it listens on all addresses."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _warn_of_another_process(app: Flask) -> None:
    """Warn that another process serves the same database, if only one process may."""
    if settings(app).REDIS_URL:
        return
    if SingleProcess(app.config["SQLALCHEMY_DATABASE_URI"], app.instance_path).is_taken():
        click.echo(
            f"warning: another process serves the database {db.engine.url.database}. Until it ends, this one answers "
            "503 second_process. More than one process requires REDIS_URL.",
            err=True,
        )


def _warn_of_database(workers: int) -> None:
    """Warn if the database is away, old or allows too few connections. The service starts: /readyz tells the same."""
    try:
        allowed = max_connections(db.engine)
        _warn_of_old_tables()
    except OperationalError as error:
        cause = redact(str(error.orig).partition("\n")[0], secrets_of(settings()))
        click.echo(f"warning: the database does not respond yet: {cause}", err=True)
        return
    finally:
        db.engine.dispose()  # workers must not inherit a connection
    wanted = workers * settings().DATABASE_POOL_SIZE
    if allowed is not None and wanted > allowed:
        click.echo(
            f"warning: {workers} workers x DATABASE_POOL_SIZE may open {wanted} connections, "
            f"but the database allows {allowed}",
            err=True,
        )


def _warn_of_old_tables() -> None:
    """Warn if a configured database is not migrated, or has no signing key. The workers migrate the embedded one."""
    found = find_revision()
    if problem := settings().DATABASE_URL and revision.problem_of(found):
        click.echo(f"warning: the database is not ready. {problem}", err=True)
    elif found:
        with suppress(NoSigningKey):  # it is logged, with the command to run
            require_signing_key()


def _shared_metrics() -> AbstractContextManager[None]:
    """Share metrics between the workers, if metrics are on."""
    if not settings().METRICS_TOKEN:
        return nullcontext()
    from apps.observability.metrics import shared_by_processes

    return shared_by_processes()
