"""Users, their sessions, and the count of failed logins."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
BLOB = sa.LargeBinary(255).with_variant(mysql.VARBINARY(255), "mysql", "mariadb")
DIGEST = sa.LargeBinary(32).with_variant(mysql.VARBINARY(32), "mysql", "mariadb")


def exact_string(length):
    return (
        sa.String(length)
        .with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
        .with_variant(sa.String(length, collation="C"), "postgresql")
    )


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "users",
        sa.Column("id", ID, nullable=False),
        sa.Column("username", exact_string(64), nullable=False),
        sa.Column("username_key", exact_string(191), nullable=False),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("mobile_ciphertext", BLOB, nullable=False),
        sa.Column("mobile_index", DIGEST, nullable=False),
        sa.Column("age", sa.SmallInteger(), nullable=False),
        sa.Column("birth", TIME, nullable=False),
        sa.Column("photo", sa.String(255), nullable=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("update_time", TIME, nullable=False),
        sa.CheckConstraint("role IN ('user', 'admin')", name=op.f("ck_users_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("username_key", name=op.f("uq_users_username_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_users_mobile_index"), "users", ["mobile_index"])
    op.create_table(
        "sessions",
        sa.Column("id", exact_string(32), nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("user_agent", sa.String(255), nullable=False),
        sa.Column("refresh_generation", sa.Integer(), nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("last_used_time", TIME, nullable=False),
        sa.Column("expire_time", TIME, nullable=False),
        sa.Column("revoke_time", TIME, nullable=True),
        sa.Column("revoke_reason", sa.String(32), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sessions_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    op.create_index("ix_sessions_user_id_expire_time", "sessions", ["user_id", "expire_time"])
    op.create_table(
        "login_attempts",
        sa.Column("username_digest", DIGEST, nullable=False),
        sa.Column("failed_count", sa.Integer(), nullable=False),
        sa.Column("next_allowed_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("username_digest", name=op.f("pk_login_attempts")),
    )
    op.create_index(op.f("ix_login_attempts_next_allowed_time"), "login_attempts", ["next_allowed_time"])


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("login_attempts")
    op.drop_table("sessions")
    op.drop_table("users")
