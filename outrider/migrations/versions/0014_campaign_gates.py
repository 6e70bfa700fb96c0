"""Let a campaign have settings of gates that differ from its tenant's."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import ALL, guard, statements

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE campaign_gates (          -- settings of gates that hold for one campaign instead of its tenant's
  tenant_id uuid NOT NULL, campaign_id uuid NOT NULL, settings jsonb NOT NULL, updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, campaign_id),
  FOREIGN KEY (tenant_id, campaign_id) REFERENCES campaigns (tenant_id, id) ON DELETE CASCADE
);
"""


def upgrade() -> None:
    """Make the table."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for statement in statements(_TABLE):
        op.execute(statement)
    guard("campaign_gates", ALL)
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take it away; every campaign follows its tenant again."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("DROP TABLE campaign_gates")
    op.execute("RESET ROLE")
