"""The audit, as the operator checks and shortens it."""

from datetime import timedelta

import click
from flask.cli import with_appcontext

from apps.services import audit


@click.group("audit")
def audit_commands() -> None:
    """Check and shorten the audit."""


@audit_commands.command("verify")
@with_appcontext
def verify_audit() -> None:
    """Check that the events are one chain, from the last purge on, and that none was changed or taken out."""
    try:
        click.echo(f"{audit.verify()} events, none changed")
    except audit.BrokenChain as error:
        raise click.ClickException(f"the audit was tampered with: {error}") from None


@audit_commands.command("purge")
@click.option("--days", required=True, type=click.IntRange(1), help="Events older than this are deleted.")
@click.option("--batch", default=1000, show_default=True, type=click.IntRange(1, 10_000), help="Rows a transaction.")
@with_appcontext
def purge_audit(days: int, batch: int) -> None:
    """Delete old events. The rest is still a chain, which begins where they ended; the deletion is an event itself."""
    click.echo(f"deleted {audit.purge(timedelta(days=days), batch)} events")
