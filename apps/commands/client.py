"""Commands for clients: other services that may introspect or revoke tokens."""

import click
from flask.cli import with_appcontext

from apps.services import client as clients

_scope_option = click.option(
    "--scope",
    "scopes",
    type=click.Choice(clients.SCOPES),
    multiple=True,
    required=True,
    help="What the client may do. Repeat the option for several scopes.",
)


@click.group("clients")
def client_commands() -> None:
    """Manage the services that may introspect or revoke tokens.

    See RFC 7662 and RFC 7009.
    """


@client_commands.command("add")
@click.argument("name")
@_scope_option
@with_appcontext
def add_client(name: str, scopes: tuple[clients.Scope, ...]) -> None:
    """Add a client and print its secret, which cannot be shown again."""
    if not (name.isprintable() and 1 <= len(name) <= 64):
        raise click.BadParameter("must be 1 to 64 printable characters", param_hint="NAME")
    client, secret = clients.add_client(name, scopes)
    click.echo(f"client id      {client.id}\nclient secret  {secret}")


@client_commands.command("list")
@with_appcontext
def list_clients() -> None:
    """List the clients: id, date, kind, scopes, name."""
    for client in clients.list_clients():
        click.echo(f"{client.id}  {client.create_time:%Y-%m-%d}  {client.kind}  {client.scopes}  {client.name}")


@client_commands.command("set")
@click.argument("client_id")
@_scope_option
@with_appcontext
def set_client(client_id: str, scopes: tuple[clients.Scope, ...]) -> None:
    """Replace the scopes of a client. They apply to its next request."""
    if not clients.set_scopes(client_id, scopes):
        raise click.ClickException("no such client")
    click.echo(f"set {client_id}")


@client_commands.command("remove")
@click.argument("client_id")
@with_appcontext
def remove_client(client_id: str) -> None:
    """Remove a client. Its requests are refused from now on."""
    if not clients.remove_client(client_id):
        raise click.ClickException("no such client")
    click.echo(f"removed {client_id}")
