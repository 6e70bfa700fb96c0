"""Remember which campaigns were paused for what their recipients did, and find who left lately."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import guard, statements

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE campaign_brakes (         -- a campaign was paused for what its recipients did; what came before counts no more
  tenant_id uuid NOT NULL, campaign_id uuid NOT NULL, counted_from timestamptz NOT NULL DEFAULT now(), reason text NOT NULL,
  PRIMARY KEY (tenant_id, campaign_id),
  FOREIGN KEY (tenant_id, campaign_id) REFERENCES campaigns (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX suppressions_newest ON suppressions (created_at) WHERE reason IN ('unsubscribe', 'stop', 'complaint', 'hard_bounce');
"""


def upgrade() -> None:
    """Make table and index."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for statement in statements(_TABLE):
        op.execute(statement)
    guard("campaign_brakes", "SELECT")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("DROP INDEX suppressions_newest")
    op.execute("DROP TABLE campaign_brakes")
    op.execute("RESET ROLE")
