"""Count what came back for now, let entries of the do-not-contact list end, and ask providers for their prices."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import guard, statements

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_MADE = """
CREATE TABLE soft_bounces (            -- messages that came back for now, each once; used: an entry was made of it
  tenant_id uuid NOT NULL, message_id uuid NOT NULL, channel text NOT NULL, address text NOT NULL, at timestamptz NOT NULL,
  cause text NOT NULL DEFAULT '', detail text NOT NULL DEFAULT '', is_used boolean NOT NULL DEFAULT false,
  PRIMARY KEY (tenant_id, message_id)
);
CREATE INDEX soft_bounces_address ON soft_bounces (tenant_id, channel, address, at);
CREATE INDEX soft_bounces_at ON soft_bounces (at);
ALTER TABLE suppressions ADD COLUMN expires_at timestamptz;
CREATE INDEX suppressions_expiring ON suppressions (expires_at) WHERE expires_at IS NOT NULL;
ALTER TABLE charges ADD COLUMN ask_at timestamptz;
CREATE INDEX charges_ask ON charges (tenant_id, ask_at) WHERE ask_at IS NOT NULL;
"""


def upgrade() -> None:
    """Make the table, the columns and their indexes."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for statement in statements(_MADE):
        op.execute(statement)
    guard("soft_bounces", "SELECT")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away; entries that would have ended stay until somebody takes them away."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("DROP INDEX charges_ask")
    op.execute("ALTER TABLE charges DROP COLUMN ask_at")
    op.execute("DROP INDEX suppressions_expiring")
    op.execute("ALTER TABLE suppressions DROP COLUMN expires_at")
    op.execute("DROP TABLE soft_bounces")
    op.execute("RESET ROLE")
