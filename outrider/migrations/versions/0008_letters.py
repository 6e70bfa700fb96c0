"""Keep what the author of a template wrote beside what is sent, and give senders addresses of their own for links."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns with presets; versions made before were sent as they were written."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE template_versions ADD COLUMN written jsonb")
    op.execute("ALTER TABLE senders ADD COLUMN public_url text NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE senders ADD COLUMN tracking_url text NOT NULL DEFAULT ''")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away: what was written as MJML is then only kept as the HTML made of it."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE senders DROP COLUMN tracking_url")
    op.execute("ALTER TABLE senders DROP COLUMN public_url")
    op.execute("ALTER TABLE template_versions DROP COLUMN written")
    op.execute("RESET ROLE")
