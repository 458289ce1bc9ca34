"""Commands for sessions."""

import click
from flask.cli import with_appcontext

from apps.services.login_attempt import purge_attempts
from apps.services.session import purge_sessions


@click.group("sessions")
def session_commands() -> None:
    """Purge sessions."""


@session_commands.command("purge")
@click.option("--batch", default=1000, show_default=True, type=click.IntRange(1, 10_000), help="Rows per transaction.")
@with_appcontext
def purge(batch: int) -> None:
    """Delete sessions that ended a day ago or earlier, and old counts of failed logins.

    The command is safe while the service runs.
    """
    click.echo(f"deleted {purge_attempts()} counts of failed logins")
    click.echo(f"deleted {purge_sessions(batch)} sessions")
