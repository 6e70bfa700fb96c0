"""Note of accounts that messages wait for money, and that money came back, so that these do not wait for tomorrow."""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_COLUMNS = ("is_short boolean NOT NULL DEFAULT false", "is_freed boolean NOT NULL DEFAULT false")


def upgrade() -> None:
    """Add the columns and the index by which freed accounts are found."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE budget_accounts " + ", ".join(f"ADD COLUMN {column}" for column in _COLUMNS))
    op.execute("CREATE INDEX budget_accounts_freed ON budget_accounts (tenant_id) WHERE is_freed")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("DROP INDEX budget_accounts_freed")
    op.execute("ALTER TABLE budget_accounts DROP COLUMN is_short, DROP COLUMN is_freed")
    op.execute("RESET ROLE")
