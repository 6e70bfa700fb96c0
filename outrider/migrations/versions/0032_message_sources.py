"""Note who asked for a text, for the limit per source."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import guard, statements

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE message_sources (         -- who asked for a text to which country and range of numbers, where a tenant limits that
  tenant_id uuid NOT NULL, message_id uuid NOT NULL, source text NOT NULL, country text NOT NULL, range text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, message_id)
);
CREATE INDEX message_sources_source ON message_sources (tenant_id, source, country, at);
CREATE INDEX message_sources_range ON message_sources (tenant_id, range, at);
CREATE INDEX message_sources_at ON message_sources (at);
"""


def upgrade() -> None:
    """Make the table; texts accepted before have no source."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for statement in statements(TABLE):
        op.execute(statement)
    guard("message_sources", "SELECT")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take it away: nothing is counted by its source."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("DROP TABLE message_sources")
    op.execute("RESET ROLE")
