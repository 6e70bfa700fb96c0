"""List messages that were set aside because workers died over them; say when a process stood still."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import guard, statements

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

# The whole ledger is read where workers have died over a message, folded or not yet; nobody waits meanwhile. Heartbeats
# would, so their table comes last.
_MADE = """
CREATE TABLE poison_messages (         -- failed because workers died over them: wait for a decision, or stay failed
  tenant_id uuid NOT NULL, message_id uuid NOT NULL, since timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, message_id)
);
CREATE INDEX poison_messages_since ON poison_messages (since);
INSERT INTO poison_messages (tenant_id, message_id, since)
  SELECT tenant_id, id, coalesce(finished_at, now()) FROM messages
  WHERE state = 'failed' AND code = 'poison' AND address <> 'erased'
    AND (EXISTS (SELECT FROM rollups WHERE code = 'poison') OR EXISTS (SELECT FROM rollup_deltas WHERE code = 'poison'));
"""


def upgrade() -> None:
    """Make the table, with what is known to belong into it."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for statement in statements(_MADE):
        op.execute(statement)
    guard("poison_messages", "SELECT")
    op.execute("ALTER TABLE workers ADD COLUMN stalled_at timestamptz, ADD COLUMN stalled_s real")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away: the messages stay failed."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE workers DROP COLUMN stalled_at, DROP COLUMN stalled_s")
    op.execute("DROP TABLE poison_messages")
    op.execute("RESET ROLE")
