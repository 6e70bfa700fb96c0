"""Let campaigns wait for the moment at which they are launched."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_STATES = (
    "ALTER TABLE campaigns DROP CONSTRAINT campaigns_state_check, "
    "ADD CONSTRAINT campaigns_state_check CHECK (state IN ({}))"
)
_COLUMNS = ("launch_at timestamptz", "launch_trouble text")


def upgrade() -> None:
    """Add the state and columns that are null nearly always."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute(_STATES.format("'draft', 'scheduled', 'sending', 'paused', 'finished', 'cancelled'"))
    op.execute("ALTER TABLE campaigns " + ", ".join(f"ADD COLUMN {column}" for column in _COLUMNS))
    op.execute(
        "ALTER TABLE campaigns ADD CONSTRAINT campaigns_launch_at_check "
        "CHECK (state <> 'scheduled' OR launch_at IS NOT NULL)"
    )
    op.execute("CREATE INDEX campaigns_scheduled ON campaigns (tenant_id, launch_at) WHERE state = 'scheduled'")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away; what waits becomes a draft again."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("DROP INDEX campaigns_scheduled")
    op.execute("ALTER TABLE campaigns DROP CONSTRAINT campaigns_launch_at_check")
    op.execute("UPDATE campaigns SET state = 'draft' WHERE state = 'scheduled'")
    op.execute("ALTER TABLE campaigns " + ", ".join(f"DROP COLUMN {each.split()[0]}" for each in _COLUMNS))
    op.execute(_STATES.format("'draft', 'sending', 'paused', 'finished', 'cancelled'"))
    op.execute("RESET ROLE")
