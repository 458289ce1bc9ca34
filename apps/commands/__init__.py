"""The commands of `manage.py`."""

from typing import Any

import click
from flask import Flask

from apps.commands.audit import audit_commands
from apps.commands.backup import backup, restore
from apps.commands.client import client_commands
from apps.commands.doctor import doctor
from apps.commands.documents import config_example, write_openapi, write_postman
from apps.commands.key import key_commands
from apps.commands.server import run, serve
from apps.commands.session import session_commands
from apps.commands.user import create_admin
from apps.database.migrations import bind_migrations

_COMMANDS: tuple[click.Command, ...] = (
    run,
    serve,
    doctor,
    create_admin,
    backup,
    restore,
    write_openapi,
    write_postman,
    config_example,
    session_commands,
    audit_commands,
    key_commands,
    client_commands,
)


def register_commands(app: Flask) -> None:
    """Add every command to `app.cli`."""
    app.cli.help = "Gatehouse: user accounts and tokens."
    for command in (*_COMMANDS, MigrationCommands(app)):
        app.cli.add_command(command)


class MigrationCommands(click.Group):
    """`db`: the commands of Flask-Migrate, imported only when one is called.

    The workers of `serve` are forked and keep every imported module in memory. Alembic takes a tenth of a worker.
    """

    def __init__(self, app: Flask) -> None:
        super().__init__("db", help="Perform database migrations.")
        self._app = app

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Return a context of Flask-Migrate's group, so that it runs instead of this one."""
        from flask_migrate.cli import db

        bind_migrations(self._app)
        context: click.Context = db.make_context(info_name, args, parent, **extra)
        return context
