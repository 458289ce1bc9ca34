"""Copies of the whole database."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from flask.cli import with_appcontext

from apps.commands import database_copy as backups
from apps.extensions import db
from apps.services import audit


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@with_appcontext
def backup(file: Path) -> None:
    """Copy the whole database into a new FILE.

    It is as of one moment, and the service may go on meanwhile. PostgreSQL and MariaDB need their own pg_dump or
    mariadb-dump. The secrets are not in it: keep them apart.
    """
    try:
        with _ended_cleanly():
            backups.backup(db.engine, file)
    except backups.BackupError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"wrote {file}, {file.stat().st_size:,} bytes")


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@with_appcontext
def restore(file: Path) -> None:
    """Fill an empty database from FILE.

    FILE is what `backup` made; the audit in it is checked. Run `db upgrade` afterwards if the code is newer than
    the copy. Start with an empty Redis.
    """
    try:
        with _ended_cleanly():
            backups.restore(db.engine, file)
        click.echo(f"restored; {audit.verify()} audit events, none changed")
    except (backups.BackupError, audit.BrokenChain) as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def _ended_cleanly() -> Iterator[None]:
    """Let a signal that ends the process be an exception: then the database's program ends too, and no half is left."""
    before = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: object) -> None:
    sys.exit(128 + number)  # as a shell tells of a signal
