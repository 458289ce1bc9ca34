#!/usr/bin/env python
"""The command line: `python manage.py --help`."""

import sys


def main() -> None:
    """Run the command that the arguments name. Exit with a plain message if a setting is wrong."""
    # Imported here, because every worker of `serve` imports this file too and needs no commands.
    from flask.cli import ScriptInfo
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.exc import TimeoutError as PoolTimeoutError

    from apps import create_app
    from apps.commands import register_commands
    from apps.config import settings
    from apps.database.revision import is_missing_schema, needed_revision
    from apps.errors import ApiError
    from apps.observability import logs
    from apps.settings.reader import InvalidSettings
    from apps.settings.urls import redact, secrets_of

    if sys.argv[1:2] == ["doctor"]:  # before an application is made: that would create files
        from apps.commands.doctor import doctor

        doctor(sys.argv[2:], prog_name="manage.py doctor")
    try:
        app = create_app()
    except InvalidSettings as error:
        sys.exit(str(error))
    logs.configure(settings(app), "stderr")  # stdout is for the command's own output
    register_commands(app)
    try:
        app.cli(prog_name="manage.py", obj=ScriptInfo(create_app=lambda: app))
    except ApiError as error:
        sys.exit(error.message)
    except (DBAPIError, PoolTimeoutError) as error:
        first_line = str(getattr(error, "orig", error)).partition("\n")[0]
        problem = "does not respond"
        if isinstance(error, DBAPIError) and is_missing_schema(error):
            problem = f"has no tables or is not at migration {needed_revision()} (run `manage.py db upgrade`)"
        sys.exit(f"the database {problem}: {redact(first_line, secrets_of(settings(app)))}")


if __name__ == "__main__":
    main()
