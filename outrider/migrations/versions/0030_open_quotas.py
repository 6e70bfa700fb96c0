"""Count the open messages of every tenant, and let operators bound them; campaigns wait where there is no room."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import guard

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

COUNTS = """
CREATE TABLE open_counts (
  tenant_id uuid PRIMARY KEY, transactional bigint NOT NULL DEFAULT 0, bulk bigint NOT NULL DEFAULT 0, counted_at timestamptz
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)
"""
"""Changed once a second by every process that folds: pages are left room, so that no index grows by it."""


def upgrade() -> None:
    """Add the counts, empty: the first worker counts what there is. And the bounds; unset ones are the presets."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute(COUNTS)
    guard("open_counts", "SELECT")
    op.execute("ALTER TABLE tenants ADD COLUMN open_most bigint CHECK (open_most >= 0)")
    op.execute(
        "ALTER TABLE installation ADD COLUMN open_most bigint CHECK (open_most >= 0), "
        "ADD COLUMN tenant_open_most bigint CHECK (tenant_open_most >= 0), "
        "ADD COLUMN open_bulk_percent smallint CHECK (open_bulk_percent BETWEEN 1 AND 100)"
    )
    op.execute("ALTER TABLE campaigns ADD COLUMN no_room_at timestamptz")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE campaigns DROP COLUMN no_room_at")
    op.execute(
        "ALTER TABLE installation DROP COLUMN open_most, DROP COLUMN tenant_open_most, DROP COLUMN open_bulk_percent"
    )
    op.execute("ALTER TABLE tenants DROP COLUMN open_most")
    op.execute("DROP TABLE open_counts")
    op.execute("RESET ROLE")
