"""The command line: `python manage.py --help`."""

import sys

import click
from flask import Flask
from flask.cli import ScriptInfo
from sqlalchemy.exc import OperationalError, ProgrammingError

from apps import create_app
from apps.commands.audit import audit_commands
from apps.commands.backup import backup, restore
from apps.commands.client import client_commands
from apps.commands.documents import config_example, write_openapi, write_postman
from apps.commands.key import key_commands
from apps.commands.server import run, serve
from apps.commands.session import session_commands
from apps.commands.user import create_admin
from apps.database.engine import bind_migrations
from apps.observability import logs
from apps.settings.reader import InvalidSettings


def main() -> None:
    """Run the command that the arguments name; end with a plain message when a setting is wrong."""
    try:
        app = create_app()
    except InvalidSettings as error:
        sys.exit(str(error))
    logs.configure(app.config["LOG_LEVEL"], "stderr")  # what a command prints is for whoever reads its output
    app.cli.help = "Gatehouse: user accounts and tokens."
    try:
        app.cli(prog_name="manage.py", obj=ScriptInfo(create_app=lambda: app))
    except (OperationalError, ProgrammingError) as error:
        first_line = str(error.orig).partition("\n")[0]
        sys.exit(f"the database does not answer, or has no tables yet (manage.py db upgrade): {first_line}")


def migration_commands(app: Flask) -> click.Command:
    """Return `db`. Alembic is imported for it alone: a worker has in memory whatever `serve` has imported."""
    import flask_migrate.cli

    bind_migrations(app)
    db: click.Group = flask_migrate.cli.db
    return db


def register_commands(app: Flask) -> None:
    """Add the commands, but for those of Flask-Migrate."""
    groups = (session_commands, audit_commands, key_commands, client_commands)
    for command in (run, serve, create_admin, backup, restore, write_openapi, write_postman, config_example, *groups):
        app.cli.add_command(command)
