"""Clean the queue by its share of dead rows, and find open lanes by themselves.

A vacuum of the queue reads its indexes whole, whatever it finds. After a fixed number of dead rows it cost the more for
each message the more waited: with ten million, a third of a machine. By share it costs the same for each.
"""

from __future__ import annotations

from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Set the share; make the index."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE queue SET (autovacuum_vacuum_scale_factor = 0.1)")
    op.execute("CREATE INDEX lanes_open ON lanes (tenant_id, id) WHERE is_open")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take both away."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE queue SET (autovacuum_vacuum_scale_factor = 0)")
    op.execute("DROP INDEX lanes_open")
    op.execute("RESET ROLE")
