"""The User-Agent that refreshed a session last, as a digest."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. It is null until the next refresh, and what the previous release leaves in it matches nothing."""
    digest = sa.LargeBinary(32).with_variant(mysql.VARBINARY(32), "mysql", "mariadb")
    op.add_column("sessions", sa.Column("rotated_by", digest, nullable=True))


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("sessions") as sessions:
        sessions.drop_column("rotated_by")
