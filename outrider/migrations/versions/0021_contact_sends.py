"""Remember who was sent what when, for contacts whose messages are counted."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import guard, statements

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE contact_sends (           -- attempts that count for a contact: noted at the claim, taken back when not sent
  tenant_id uuid NOT NULL, message_id uuid NOT NULL, token bigint NOT NULL, contact_id uuid NOT NULL, purpose text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, message_id, token)
);
CREATE INDEX contact_sends_contact ON contact_sends (tenant_id, contact_id, purpose, at);
CREATE INDEX contact_sends_at ON contact_sends (at);
"""


def upgrade() -> None:
    """Make the table."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for statement in statements(_TABLE):
        op.execute(statement)
    guard("contact_sends", "SELECT")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take it away: nobody was sent anything, as far as is known."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("DROP TABLE contact_sends")
    op.execute("RESET ROLE")
