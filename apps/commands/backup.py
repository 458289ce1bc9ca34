"""Commands that back up and restore the database."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from flask.cli import with_appcontext

from apps.commands import database_copy as backups
from apps.config import settings
from apps.extensions import db
from apps.services import audit
from apps.settings.urls import redact, secrets_of


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@with_appcontext
def backup(file: Path) -> None:
    """Copy the whole database into a new FILE.

    The copy is consistent, and the service can keep running. PostgreSQL requires pg_dump, MariaDB mariadb-dump. The
    secrets of the service are not included: store them separately.
    """
    try:
        with _exit_on_signals():
            backups.backup(db.engine, file)
    except backups.BackupError as error:
        raise click.ClickException(_redacted(error)) from None
    click.echo(f"wrote {file}, {file.stat().st_size:,} bytes")


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@with_appcontext
def restore(file: Path) -> None:
    """Fill an empty database from FILE.

    FILE is a copy made by `backup`. The restored audit is verified. Afterwards run `db upgrade` if the code is newer
    than the copy, and start with an empty Redis.
    """
    try:
        with _exit_on_signals():
            backups.restore(db.engine, file)
        click.echo(f"restored; {audit.verify()} audit events, none changed")
    except (backups.BackupError, audit.BrokenChain) as error:
        raise click.ClickException(_redacted(error)) from None


def _redacted(error: Exception) -> str:
    """Return the text of `error`, which may quote a program of the database."""
    return redact(str(error), secrets_of(settings()))


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exception, so that the database program stops and no partial copy remains."""
    before = {number: signal.signal(number, _exit) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(number: int, _frame: object) -> None:
    sys.exit(128 + number)  # the exit code that a shell reports for a signal
