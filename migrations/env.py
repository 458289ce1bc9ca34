"""How alembic runs the migrations: on the application's own engine, for every database alike."""

from alembic import context
from sqlalchemy import Connection

from apps.database.timeouts import set_socket_timeout
from apps.extensions import db

LOCK_TIMEOUT = "5s"  # a migration that cannot have its lock gives up, rather than stop every request behind it


def run() -> None:
    """Run what the command line asks for, each migration in a transaction where the database can."""
    with db.engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        set_socket_timeout(driver, None)
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.commit()
        if connection.dialect.name == "sqlite":
            # It changes a table by making another; when the old one is dropped, what refers to it would go as well.
            driver.execute("PRAGMA foreign_keys=OFF")
        try:
            migrate(connection)
        finally:
            connection.invalidate()  # the settings above are not for requests


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=db.metadata,
        compare_type=True,
        compare_server_default=True,
        render_as_batch=True,  # for SQLite
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    raise SystemExit("the migrations need a database: there is no --sql mode")
run()
