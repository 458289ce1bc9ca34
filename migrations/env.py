"""Alembic's environment: run the migrations on the application's own engine, and number new ones."""

from alembic import context
from alembic.operations import MigrationScript
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from apps.database.timeouts import set_socket_timeout
from apps.extensions import db

LOCK_TIMEOUT = "5s"  # a migration that waits for a lock blocks every request behind it, so it gives up


def run() -> None:
    """Run the command, with each migration in a transaction if the database supports that."""
    with db.engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        set_socket_timeout(driver, None)
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.commit()
        if connection.dialect.name == "sqlite":
            # SQLite alters a table by replacing it; dropping the old one would cascade to the rows that refer to it.
            driver.execute("PRAGMA foreign_keys=OFF")
        try:
            migrate(connection)
        finally:
            connection.invalidate()  # the settings above must not reach requests


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=db.metadata,
        compare_type=True,
        compare_server_default=True,
        render_as_batch=True,  # for SQLite
        transaction_per_migration=True,
        process_revision_directives=number_revision,
    )
    with context.begin_transaction():
        context.run_migrations()


def number_revision(_context: MigrationContext, _revision: object, scripts: list[MigrationScript]) -> None:
    """Give a new revision the number after the newest one, instead of Alembic's random id."""
    for script in scripts:
        script.rev_id = f"{int(context.get_head_revision() or 0) + 1:04}"


if context.is_offline_mode():
    raise SystemExit("migrations need a database connection: --sql is not supported")
run()
