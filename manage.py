#!/usr/bin/env python
"""The command line: `python manage.py --help`."""

import sys


def main() -> None:
    """Run the command that the arguments name. Exit with a plain message if a setting is wrong."""
    # Imported here, because every worker of `serve` imports this file too and needs no commands.
    from flask.cli import ScriptInfo
    from sqlalchemy.exc import OperationalError, ProgrammingError

    from apps import create_app
    from apps.commands import register_commands
    from apps.config import settings
    from apps.observability import logs
    from apps.settings.reader import InvalidSettings

    try:
        app = create_app()
    except InvalidSettings as error:
        sys.exit(str(error))
    logs.configure(settings(app).LOG_LEVEL, "stderr")  # stdout is for the command's own output
    register_commands(app)
    try:
        app.cli(prog_name="manage.py", obj=ScriptInfo(create_app=lambda: app))
    except (OperationalError, ProgrammingError) as error:
        first_line = str(error.orig).partition("\n")[0]
        sys.exit(f"the database does not respond or has no tables yet (run `manage.py db upgrade`): {first_line}")


if __name__ == "__main__":
    main()
