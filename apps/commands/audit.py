"""Commands that verify and purge the audit."""

from datetime import timedelta

import click
from flask.cli import with_appcontext

from apps.services import audit


@click.group("audit")
def audit_commands() -> None:
    """Verify and purge the audit."""


@audit_commands.command("verify")
@with_appcontext
def verify_audit() -> None:
    """Check the hash chain since the last purge: no event was changed or removed."""
    try:
        click.echo(f"{audit.verify()} events, none changed")
    except audit.BrokenChain as error:
        raise click.ClickException(f"the audit was tampered with: {error}") from None


@audit_commands.command("purge")
@click.option("--days", required=True, type=click.IntRange(1), help="Delete events older than this.")
@click.option("--batch", default=1000, show_default=True, type=click.IntRange(1, 10_000), help="Rows per transaction.")
@with_appcontext
def purge_audit(days: int, batch: int) -> None:
    """Delete old events and record the deletion. The chain of the other events stays intact."""
    click.echo(f"deleted {audit.purge(timedelta(days=days), batch)} events")
