"""Blocked accounts, and an index to list accounts by when they were made."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    """Nobody is blocked."""
    op.add_column("users", sa.Column("block_time", TIME, nullable=True))
    op.create_index("ix_users_create_time_id", "users", ["create_time", "id"])


def downgrade() -> None:
    """Nobody is blocked any more."""
    op.drop_index("ix_users_create_time_id", "users")
    with op.batch_alter_table("users", table_kwargs={"sqlite_autoincrement": True}) as users:
        users.drop_column("block_time")
