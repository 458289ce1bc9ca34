"""Where the audit begins: events that are old enough may be deleted, in order; the head remembers the last of them.

So the head is guarded as the events are: it stays, and what it remembers only grows.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
DIGEST = sa.LargeBinary(32).with_variant(mysql.VARBINARY(32), "mysql", "mariadb")
KEPT = "OLD.id > COALESCE((SELECT purged_until_id FROM {schema}audit_head WHERE id = 1), 0)"
GOES_BACK = (
    "NEW.id <> OLD.id OR NEW.last_event_id < OLD.last_event_id OR NEW.purged_until_id < OLD.purged_until_id"
)
REFUSALS = {
    "sqlite": "CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} WHEN {condition} "
    "BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END",
    "postgresql": "CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} FOR EACH ROW WHEN ({condition}) "
    "EXECUTE FUNCTION refuse_audit_change()",
    "mysql": "CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} FOR EACH ROW BEGIN "
    "IF {condition} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the audit is append-only'; END IF; END",
}
REFUSALS["mariadb"] = REFUSALS["mysql"]


def is_postgresql():
    return op.get_bind().dialect.name == "postgresql"


def refuse(verb, table, condition="1 = 1"):
    """Make the trigger that refuses a change of a row under a condition."""
    op.execute(REFUSALS[op.get_bind().dialect.name].format(verb=verb, table=table, condition=condition))


def stop_refusing(verb, table):
    op.execute(f"DROP TRIGGER {table}_no_{verb}{f' ON {table}' if is_postgresql() else ''}")


def refuse_delete_of_kept():
    """Make the trigger that refuses to delete an event after those that the head names."""
    if not is_postgresql():
        refuse("DELETE", "audit_events", KEPT.format(schema=""))
        return
    # With its schema: a role finds a temporary table of its own first, and could make one of this name.
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(
        "CREATE FUNCTION refuse_audit_delete() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN IF {KEPT.format(schema=f'{schema}.')} THEN "
        "RAISE EXCEPTION 'the audit is append-only'; END IF; RETURN OLD; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_events_no_DELETE BEFORE DELETE ON audit_events "
        "FOR EACH ROW EXECUTE FUNCTION refuse_audit_delete()"
    )


def upgrade() -> None:
    """Let the head say up to where events were deleted, and the triggers look at it and after it."""
    op.add_column("audit_head", sa.Column("purged_until_id", ID, nullable=False, server_default="0"))
    op.add_column("audit_head", sa.Column("purged_hash", DIGEST, nullable=True))
    stop_refusing("DELETE", "audit_events")
    refuse_delete_of_kept()
    refuse("DELETE", "audit_head")
    refuse("UPDATE", "audit_head", GOES_BACK)
    if is_postgresql():
        for table in ("audit_events", "audit_head"):
            op.execute(
                f"CREATE TRIGGER {table}_no_TRUNCATE BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()"
            )


def downgrade() -> None:
    """Refuse every DELETE again. An audit that was purged is then one whose first events are missing."""
    if is_postgresql():
        for table in ("audit_events", "audit_head"):
            stop_refusing("TRUNCATE", table)
    for verb in ("UPDATE", "DELETE"):
        stop_refusing(verb, "audit_head")
    stop_refusing("DELETE", "audit_events")
    if is_postgresql():
        op.execute("DROP FUNCTION refuse_audit_delete()")
    refuse("DELETE", "audit_events")
    with op.batch_alter_table("audit_head") as table:
        table.drop_column("purged_hash")
        table.drop_column("purged_until_id")
