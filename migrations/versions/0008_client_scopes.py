"""The kind of a client, and the scopes that limit what it may do."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def exact_string(length):
    return (
        sa.String(length)
        .with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
        .with_variant(sa.String(length, collation="C"), "postgresql")
    )


def upgrade() -> None:
    """Let existing clients, and those that the previous release adds, do what they may do today."""
    op.add_column("clients", sa.Column("kind", exact_string(16), nullable=False, server_default="service"))
    op.add_column("clients", sa.Column("scopes", exact_string(512), nullable=False, server_default="introspect revoke"))


def downgrade() -> None:
    """Drop them: every client may introspect and revoke again."""
    with op.batch_alter_table("clients") as clients:
        clients.drop_column("scopes")
        clients.drop_column("kind")
