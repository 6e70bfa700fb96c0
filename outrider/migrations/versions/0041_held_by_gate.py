"""Find what a gate holds without reading the rest.

By itself: while the index is made nothing can be queued or claimed, and when writers keep its lock it is tried again.
What is slow otherwise, or waits for other locks, must not be done while it is held, nor done again each time.
"""

from __future__ import annotations

from alembic import op

revision = "0041"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index, of what is held alone."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("CREATE INDEX queue_held ON queue (tenant_id, lane_id, split_part(reason, ': ', 1)) WHERE state = 5")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take it away."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("DROP INDEX queue_held")
    op.execute("RESET ROLE")
