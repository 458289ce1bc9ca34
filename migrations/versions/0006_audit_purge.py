"""Where the audit begins: events that are old enough may be deleted, in order; the head remembers the last of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
DIGEST = sa.LargeBinary(32).with_variant(mysql.VARBINARY(32), "mysql", "mariadb")
PURGED = "OLD.id <= (SELECT purged_until_id FROM audit_head WHERE id = 1)"


def refusal(condition):
    """Return the statements that make the trigger, which refuses a DELETE under a condition."""
    refuse = {
        "sqlite": [
            f"CREATE TRIGGER audit_events_no_DELETE BEFORE DELETE ON audit_events WHEN {condition} "
            "BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
        ],
        "postgresql": [
            "CREATE OR REPLACE FUNCTION refuse_audit_delete() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN IF {condition} THEN RAISE EXCEPTION 'the audit is append-only'; END IF; RETURN OLD; END $$",
            "CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events "
            "FOR EACH ROW EXECUTE FUNCTION refuse_audit_delete()",
        ],
        "mysql": [
            "CREATE TRIGGER audit_events_no_DELETE BEFORE DELETE ON audit_events FOR EACH ROW BEGIN "
            f"IF {condition} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the audit is append-only'; END IF; END"
        ],
    }
    return refuse["mysql" if op.get_bind().dialect.name == "mariadb" else op.get_bind().dialect.name]


def drop_trigger():
    on = " ON audit_events" if op.get_bind().dialect.name == "postgresql" else ""
    op.execute(f"DROP TRIGGER audit_events_no_DELETE{on}")


def upgrade() -> None:
    """Let the head say up to where events were deleted, and the trigger look at it."""
    op.add_column("audit_head", sa.Column("purged_until_id", ID, nullable=False, server_default="0"))
    op.add_column("audit_head", sa.Column("purged_hash", DIGEST, nullable=True))
    drop_trigger()
    for statement in refusal(f"NOT ({PURGED})"):
        op.execute(statement)


def downgrade() -> None:
    """Refuse every DELETE again. An audit that was purged is then one whose first events are missing."""
    drop_trigger()
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_audit_delete()")
        op.execute(
            "CREATE TRIGGER audit_events_no_DELETE BEFORE DELETE ON audit_events "
            "FOR EACH ROW EXECUTE FUNCTION refuse_audit_change()"
        )
    else:
        for statement in refusal("1 = 1"):
            op.execute(statement)
    with op.batch_alter_table("audit_head") as table:
        table.drop_column("purged_hash")
        table.drop_column("purged_until_id")
