"""Rotation of refresh tokens: when the last one was issued, and when the session ends whatever happens."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    """Give every session an end; those that live keep the one that they were promised."""
    with op.batch_alter_table("sessions") as sessions:
        sessions.add_column(sa.Column("rotate_time", TIME, nullable=True))
        sessions.add_column(sa.Column("end_time", TIME, nullable=True))
    op.execute("UPDATE sessions SET end_time = expire_time")
    with op.batch_alter_table("sessions") as sessions:
        sessions.alter_column("end_time", existing_type=TIME, nullable=False)
    op.create_index(op.f("ix_sessions_expire_time"), "sessions", ["expire_time"])


def downgrade() -> None:
    """Forget it. Every session lives on, with the refresh token that it has."""
    op.drop_index(op.f("ix_sessions_expire_time"), "sessions")
    with op.batch_alter_table("sessions") as sessions:
        sessions.drop_column("end_time")
        sessions.drop_column("rotate_time")
