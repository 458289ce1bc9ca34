"""The command line: `python manage.py --help`."""

import json
import os
import signal
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click
import flask_migrate.cli
from flask import Flask, current_app
from flask.cli import ScriptInfo, with_appcontext
from sqlalchemy.exc import OperationalError, ProgrammingError
from werkzeug.serving import WSGIRequestHandler, run_simple

from apps.commands.data import backup, purge_audit, reencrypt, restore
from apps.errors import ApiError
from apps.extensions import db
from apps.forms.strict import read_form
from apps.forms.user import SignUpForm
from apps.models import SigningKey
from apps.services import audit
from apps.services import client as clients
from apps.services import key as keys
from apps.services import user as users
from apps.services.session import purge_sessions
from apps.utils import clock, openapi, postman
from apps.utils.database import bind_migrations, most_connections
from apps.utils.embedded import migrate_embedded
from apps.utils.settings import InvalidSettings, example

DOCS = Path(__file__).parent.parent.parent / "docs"


def main() -> None:
    """Run the command that the arguments name; end with a plain message when a setting is wrong."""
    from apps import create_app

    try:
        app = create_app()
    except InvalidSettings as error:
        sys.exit(str(error))
    app.cli.help = "Gatehouse: user accounts and tokens."
    try:
        app.cli(prog_name="manage.py", obj=ScriptInfo(create_app=lambda: app))
    except (OperationalError, ProgrammingError) as error:
        first_line = str(error.orig).partition("\n")[0]
        sys.exit(f"the database does not answer, or has no tables yet (manage.py db upgrade): {first_line}")


def register_commands(app: Flask) -> None:
    """Add the commands."""
    bind_migrations(app)
    key_commands.add_command(reencrypt)
    audit_commands.add_command(purge_audit)
    groups = (session_commands, audit_commands, key_commands, client_commands, flask_migrate.cli.db)
    for command in (run, serve, create_admin, backup, restore, write_openapi, write_postman, config_example, *groups):
        app.cli.add_command(command)


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
        """Leave it to apps/utils/logs.py."""

    def version_string(self) -> str:
        """Return the Server header."""
        return "gatehouse"


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
    help="Threads of each process; more than PASSWORD_HASH_QUEUE, or logins keep reads waiting.",
)
@with_appcontext
def serve(host: str, port: int, workers: int, threads: int) -> None:
    """Serve for production, with granian.

    SIGTERM and Ctrl-C stop it after the requests under way are answered. More than one worker needs REDIS_URL.
    """
    if workers > 1 and not current_app.config["REDIS_URL"]:
        raise click.UsageError(
            "more than one worker needs REDIS_URL: without it each process would cache for itself alone"
        )
    _warn_of_too_few_connections(workers)
    from granian import Granian
    from granian.constants import Interfaces

    sys.path.insert(0, str(DOCS.parent))
    os.chdir(DOCS.parent)
    server = Granian(
        "wsgi:app",
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=threads,
        respawn_failed_workers=True,
        workers_kill_timeout=30,
        websockets=False,
    )
    with _shared_metrics():
        server.serve()


def _warn_of_too_few_connections(workers: int) -> None:
    wanted = workers * current_app.config["DATABASE_POOL_SIZE"]
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
    if not current_app.config["METRICS_TOKEN"]:
        return nullcontext()
    from apps.utils.metrics import shared_by_processes

    return shared_by_processes()


@click.command("create-admin")
@click.option("--username", prompt=True)
@click.option("--mobile", prompt=True)
@click.option("--age", prompt=True, type=int)
@click.option("--birth", prompt="Birth (2000-01-31 00:00:00)")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of asking for it.")
@with_appcontext
def create_admin(username: str, mobile: str, age: int, birth: str, password_stdin: bool) -> None:
    """Create an account that may read, change and delete every other one."""
    migrate_embedded(current_app._get_current_object())  # type: ignore[attr-defined]
    password = (
        sys.stdin.readline().rstrip("\r\n")
        if password_stdin
        else click.prompt("Password", hide_input=True, confirmation_prompt=True)
    )
    body = {"username": username, "password": password, "mobile": mobile, "info": {"age": age, "birth": birth}}
    try:
        admin = users.create_admin(**read_form(SignUpForm, json.dumps(body).encode()).values())
    except ApiError as error:
        raise click.ClickException(error.message) from None
    click.echo(f"created admin {admin.username} with id {admin.id}")


@click.group("sessions")
def session_commands() -> None:
    """Look after the sessions."""


@session_commands.command("purge")
@click.option("--batch", default=1000, show_default=True, type=click.IntRange(1, 10_000), help="Rows a transaction.")
@with_appcontext
def purge(batch: int) -> None:
    """Delete the sessions that ended a day ago or more; safe to run beside the service."""
    click.echo(f"deleted {purge_sessions(batch)} sessions")


@click.group("audit")
def audit_commands() -> None:
    """Look at the audit."""


@audit_commands.command("verify")
@with_appcontext
def verify_audit() -> None:
    """Check that no event was changed, put in or taken out."""
    try:
        click.echo(f"{audit.verify()} events, none changed")
    except audit.BrokenChain as error:
        raise click.ClickException(f"the audit was tampered with: {error}") from None


@click.group("keys")
def key_commands() -> None:
    """Look after the keys that sign tokens (JWT_ALGORITHM EdDSA or ES256)."""


@key_commands.command("list")
@with_appcontext
def list_keys() -> None:
    """Print every key with what it is for now."""
    rows = keys.list_keys()
    for row in rows:
        click.echo(f"{row.kid}  {row.algorithm}  {row.create_time:%Y-%m-%d %H:%M}  {keys.state_of(row, rows)}")


@key_commands.command("generate")
@with_appcontext
def generate_key() -> None:
    """Publish a new key; it signs after `rotate`."""
    click.echo(f"published {_publish().kid}")


@key_commands.command("rotate")
@with_appcontext
def rotate_key() -> None:
    """Sign with the newest key, made now if there is none waiting.

    Waits until every process, and every cache between it and those who verify by JWKS, has the key, so that no token is
    refused on the way. The key before goes on verifying.
    """
    has_others = any(key.activate_time for key in keys.list_keys())
    row = keys.waiting_key() or _publish()
    age = (clock.now() - row.create_time).total_seconds()
    time.sleep(max(0.0, 3 * current_app.config["JWT_KEYS_RELOAD"] - age) if has_others else 0)
    click.echo(f"signing with {keys.activate_key(row.kid).kid}")


@key_commands.command("retire", context_settings={"ignore_unknown_options": True})  # an id may begin with "-"
@click.argument("kid")
@click.option("--force", is_flag=True, help="Also while tokens that it signed may live: they are refused from then on.")
@with_appcontext
def retire_key(kid: str, force: bool) -> None:
    """Stop verifying by a key that no longer signs."""
    try:
        keys.retire_key(kid, even_if_tokens_live=force)
    except keys.KeyFault as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"retired {kid}")


def _publish() -> SigningKey:
    algorithm = current_app.config["JWT_ALGORITHM"]
    if algorithm == "HS256":
        raise click.UsageError("JWT_ALGORITHM is HS256, which signs with JWT_SECRET_KEY: set EdDSA or ES256")
    return keys.publish_key(algorithm)


@click.group("clients")
def client_commands() -> None:
    """Look after the services that may ask about tokens (introspect, revoke)."""


@client_commands.command("add")
@click.argument("name")
@with_appcontext
def add_client(name: str) -> None:
    """Add a client; its secret is printed this once."""
    if not (name.isprintable() and 1 <= len(name) <= 64):
        raise click.BadParameter("must be 1 to 64 printable characters", param_hint="NAME")
    client, secret = clients.add_client(name)
    click.echo(f"client id      {client.id}\nclient secret  {secret}")


@client_commands.command("list")
@with_appcontext
def list_clients() -> None:
    """Print every client."""
    for client in clients.list_clients():
        click.echo(f"{client.id}  {client.create_time:%Y-%m-%d}  {client.name}")


@client_commands.command("remove")
@click.argument("client_id")
@with_appcontext
def remove_client(client_id: str) -> None:
    """Remove a client; it is refused from then on."""
    if not clients.remove_client(client_id):
        raise click.ClickException("there is no such client")
    click.echo(f"removed {client_id}")


@click.command("openapi")
@with_appcontext
def write_openapi() -> None:
    """Print the OpenAPI document of the API."""
    click.echo(json.dumps(openapi.document(), indent=2))


@click.command("postman")
@click.option(
    "--folder",
    default=str(DOCS),
    show_default=True,
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    help="Where to write them.",
)
@with_appcontext
def write_postman(folder: Path) -> None:
    """Write the Postman collection and its environment, made from the OpenAPI document."""
    for name, content in postman.files(openapi.document()).items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
        click.echo(f"wrote {folder / name}")


@click.command("config-example")
def config_example() -> None:
    """Print config.example.py: every setting with its meaning."""
    from apps.config import BaseConfig, ProdConfig

    click.echo(example(ProdConfig, BaseConfig, "python manage.py config-example"), nl=False)
