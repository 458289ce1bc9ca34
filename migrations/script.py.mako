<%!
def body(commands):
    return "pass" if not commands or "    pass\n" in commands else commands
%>\
"""${message[:1].upper() + message[1:]}."""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = "${up_revision}"
down_revision = ${repr(down_revision).replace("'", '"')}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    ${body(upgrades)}


def downgrade() -> None:
    """Undo the change."""
    ${body(downgrades)}
