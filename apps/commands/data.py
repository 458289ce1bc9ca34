"""Commands that keep the data: copies, new keys, what has been kept for long enough."""

from datetime import timedelta
from pathlib import Path

import click
from flask.cli import with_appcontext

from apps.extensions import db
from apps.services import audit, reencryption
from apps.utils import backup as backups
from apps.utils.crypto import Undecryptable


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@with_appcontext
def backup(file: Path) -> None:
    """Copy the whole database, as of one moment, into a new FILE; the service may go on.

    PostgreSQL and MariaDB need their own pg_dump or mariadb-dump. The secrets are not in it: keep them apart.
    """
    try:
        backups.backup(db.engine, file)
    except backups.BackupFault as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"wrote {file}, {file.stat().st_size:,} bytes")


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@with_appcontext
def restore(file: Path) -> None:
    """Fill an empty database from FILE, which `backup` made, and check the audit in it.

    Run `db upgrade` afterwards if the code is newer than the copy. Start with an empty Redis.
    """
    try:
        backups.restore(db.engine, file)
        click.echo(f"restored; {audit.verify()} audit events, none changed")
    except (backups.BackupFault, audit.BrokenChain) as error:
        raise click.ClickException(str(error)) from None


@click.command("reencrypt")
@click.option("--batch", default=500, show_default=True, type=click.IntRange(1, 10_000), help="Rows a transaction.")
@with_appcontext
def reencrypt(batch: int) -> None:
    """Encrypt every field by the first of FIELD_ENCRYPTION_KEYS; safe beside the service, and to start again.

    Put the new key first, restart the service, run this, and take the old key away a CACHE_TTL later.
    """
    total = 0
    try:
        for changed in reencryption.reencrypt(batch):
            total += changed
            if changed:
                click.echo(f"{total} so far", err=True)
    except Undecryptable as error:
        raise click.ClickException(f"{error}; {total} were done") from None
    click.echo(f"encrypted {total} anew")


@click.command("purge")
@click.option("--days", required=True, type=click.IntRange(1), help="Events older than this are deleted.")
@click.option("--batch", default=1000, show_default=True, type=click.IntRange(1, 10_000), help="Rows a transaction.")
@with_appcontext
def purge_audit(days: int, batch: int) -> None:
    """Delete old events. The rest is still a chain, which begins where they ended; the deletion is an event itself."""
    click.echo(f"deleted {audit.purge(timedelta(days=days), batch)} events")
