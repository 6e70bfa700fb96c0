"""Say of a campaign what keeps its list from being queued, and since when."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two columns that are null nearly always."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE campaigns ADD COLUMN trouble text, ADD COLUMN trouble_at timestamptz")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE campaigns DROP COLUMN trouble, DROP COLUMN trouble_at")
    op.execute("RESET ROLE")
