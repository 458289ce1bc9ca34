"""Signing keys, and the services that ask about tokens."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
DIGEST = sa.LargeBinary(32).with_variant(mysql.VARBINARY(32), "mysql", "mariadb")


def exact_string(length):
    return (
        sa.String(length)
        .with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
        .with_variant(sa.String(length, collation="C"), "postgresql")
    )


def upgrade() -> None:
    """Create the tables, empty."""
    op.create_table(
        "signing_keys",
        sa.Column("kid", exact_string(43), nullable=False),
        sa.Column("algorithm", sa.String(16), nullable=False),
        sa.Column(
            "private_key_ciphertext",
            sa.LargeBinary(512).with_variant(mysql.VARBINARY(512), "mysql", "mariadb"),
            nullable=False,
        ),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("activate_time", TIME, nullable=True),
        sa.Column("retire_time", TIME, nullable=True),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_signing_keys")),
    )
    op.create_table(
        "clients",
        sa.Column("id", exact_string(32), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("secret_digest", DIGEST, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clients")),
    )


def downgrade() -> None:
    """Drop them: asymmetric tokens and clients are worthless from then on."""
    op.drop_table("clients")
    op.drop_table("signing_keys")
