"""One row by which a process tells the others that Redis missed a change."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    """Add the table with its row."""
    doubts = op.create_table(
        "doubts",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", ID, nullable=False),
        sa.Column("raise_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_doubts")),
    )
    op.bulk_insert(doubts, [{"id": 1, "number": 0, "raise_time": datetime(1970, 1, 1)}])


def downgrade() -> None:
    """Drop it: a change that Redis missed is then seen when its entry ends."""
    op.drop_table("doubts")
