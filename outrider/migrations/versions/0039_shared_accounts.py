"""One account at a provider, one pace: however many tenants and connections have entered it, and however many workers run."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import guard, statements

revision = "0039"
down_revision = "0034"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE account_buckets (         -- what may go by an account at a provider now, at each rate that a connection to it has; the nil tenant's, because several may have entered it
  tenant_id uuid NOT NULL, account text NOT NULL, rate float8 NOT NULL, cap float8 NOT NULL, tokens float8 NOT NULL,
  at_s float8 NOT NULL DEFAULT extract(epoch FROM clock_timestamp()),
  PRIMARY KEY (tenant_id, account, rate, cap)
) WITH (fillfactor = 10);
CREATE TABLE account_turns (           -- up to when turns to make a request to an account are given out, to all workers
  tenant_id uuid NOT NULL, account text NOT NULL, next_s float8 NOT NULL,
  PRIMARY KEY (tenant_id, account)
) WITH (fillfactor = 10);
"""


def upgrade() -> None:
    """Make the tables; a worker writes which account a connection is when it opens it."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for statement in statements(TABLES):
        op.execute(statement)
    for table in ("account_buckets", "account_turns"):
        guard(table, "SELECT")
    op.execute("ALTER TABLE connections ADD COLUMN account text")
    op.execute("CREATE INDEX connections_account ON connections (account) WHERE account IS NOT NULL")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away: each connection and each worker has a pace of its own again."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE connections DROP COLUMN account")
    op.execute("DROP TABLE account_turns, account_buckets")
    op.execute("RESET ROLE")
