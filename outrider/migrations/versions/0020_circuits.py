"""Let other connections take over when a sender's own cannot be reached, and all workers see which those are."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import ALL, guard, statements

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE sender_fallbacks (        -- connections that take over, in their order, when those before cannot be reached
  tenant_id uuid NOT NULL, sender_id uuid NOT NULL, position smallint NOT NULL CHECK (position BETWEEN 1 AND 5),
  connection_id uuid NOT NULL,
  PRIMARY KEY (tenant_id, sender_id, position), UNIQUE (tenant_id, sender_id, connection_id),
  FOREIGN KEY (tenant_id, sender_id) REFERENCES senders (tenant_id, id),
  FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id)
);
CREATE INDEX sender_fallbacks_connection ON sender_fallbacks (tenant_id, connection_id);
CREATE TABLE circuits (                -- connections that could not be reached lately, as all workers see them; no row: all is well
  tenant_id uuid NOT NULL, connection_id uuid NOT NULL, state text NOT NULL CHECK (state IN ('closed', 'open', 'half_open')),
  failures int NOT NULL, openings int NOT NULL DEFAULT 0, passed bigint NOT NULL DEFAULT 0, cause text NOT NULL,
  failed_at timestamptz NOT NULL, opened_at timestamptz, try_at timestamptz,
  PRIMARY KEY (tenant_id, connection_id),
  FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id) ON DELETE CASCADE
);
"""


def upgrade() -> None:
    """Make the tables."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for statement in statements(TABLES):
        op.execute(statement)
    guard("sender_fallbacks", ALL)
    guard("circuits", "SELECT, DELETE")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away; senders use their own connection alone."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("DROP TABLE circuits")
    op.execute("DROP TABLE sender_fallbacks")
    op.execute("RESET ROLE")
