"""Tell attempts apart: which request is being made again at this moment, and which charge is for which id at the provider."""

from __future__ import annotations

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is empty for everything that exists: nothing is being repeated, and no charge has been named."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE keyed_requests ADD COLUMN taken_until timestamptz")
    op.execute("ALTER TABLE charges ADD COLUMN provider_id text")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take it away: a bill counts for the last attempt, and nobody sees that a request is being repeated."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE charges DROP COLUMN provider_id")
    op.execute("ALTER TABLE keyed_requests DROP COLUMN taken_until")
    op.execute("RESET ROLE")
