"""Let a launch be taken back for a while, be approved by a second person, and what failed be sent again."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import ALL, guard, statements

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_COLUMNS = (
    "undo_until timestamptz",  # until when a launch can be taken back; nothing of it is queued before
    "undo_version int",  # which version of the template the draft named; null: the latest
    "acknowledged jsonb NOT NULL DEFAULT '[]'",  # findings of the preflight that people said yes to
    "retry_of uuid",  # the campaign whose failed messages this one sends again
    "joined_count bigint NOT NULL DEFAULT 0",  # recipients who joined the list after the launch was counted
)
_TABLE = """
CREATE TABLE campaign_approvals (      -- a second person is asked; the answer holds for exactly what they were shown
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), campaign_id uuid NOT NULL,
  digest bytea NOT NULL, member_count bigint NOT NULL, will_go_count bigint NOT NULL,
  state text NOT NULL DEFAULT 'waiting',
  requested_by text NOT NULL, requesters jsonb NOT NULL, requested_at timestamptz NOT NULL DEFAULT now(), request_reason text NOT NULL,
  expires_at timestamptz NOT NULL, decided_by text, decided_at timestamptz, decision_reason text,
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT campaign_approvals_state_check CHECK (state IN ('waiting', 'approved', 'rejected', 'withdrawn', 'void')),
  FOREIGN KEY (tenant_id, campaign_id) REFERENCES campaigns (tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX campaign_approvals_open ON campaign_approvals (tenant_id, campaign_id) WHERE state IN ('waiting', 'approved');
"""


def upgrade() -> None:
    """Add columns with presets, and the table of approvals."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE campaigns " + ", ".join(f"ADD COLUMN {column}" for column in _COLUMNS))
    op.execute("ALTER TABLE campaigns ADD FOREIGN KEY (tenant_id, retry_of) REFERENCES campaigns (tenant_id, id)")
    op.execute("CREATE INDEX campaigns_retries ON campaigns (tenant_id, retry_of) WHERE retry_of IS NOT NULL")
    for statement in statements(_TABLE):
        op.execute(statement)
    guard("campaign_approvals", ALL)
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away; retries become campaigns like others, and what of them is not queued never is."""
    op.execute("SET LOCAL ROLE outrider_owner")
    # else a release that knows no retries would queue their whole list a second time
    op.execute("UPDATE campaigns SET expanded_at = now() WHERE retry_of IS NOT NULL AND expanded_at IS NULL")
    op.execute("DROP TABLE campaign_approvals")
    op.execute("ALTER TABLE campaigns " + ", ".join(f"DROP COLUMN {each.split()[0]}" for each in _COLUMNS))
    op.execute("RESET ROLE")
