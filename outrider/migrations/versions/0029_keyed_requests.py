"""Remember which messages went in one request under which key: a provider that knows the key delivers nothing twice."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import guard, statements

revision = "0029"
down_revision = "0026"
branch_labels = None
depends_on = None

_MADE = """
CREATE TABLE keyed_requests (          -- the last request of each message to a provider that knows requests by a key; kept until nobody may repeat it
  tenant_id uuid NOT NULL, message_id uuid NOT NULL, key text NOT NULL, connection_id uuid NOT NULL, place smallint NOT NULL, places smallint NOT NULL,
  token bigint NOT NULL, made_at timestamptz NOT NULL DEFAULT now(), due_at timestamptz NOT NULL DEFAULT now(), ends_at timestamptz NOT NULL,
  tries smallint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, message_id)
) WITH (fillfactor = 80);
CREATE INDEX keyed_requests_key ON keyed_requests (tenant_id, key);
CREATE INDEX keyed_requests_made ON keyed_requests (made_at);
"""


def upgrade() -> None:
    """Make the table; nothing that exists is touched."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for statement in statements(_MADE):
        op.execute(statement)
    guard("keyed_requests", "SELECT")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take it away: what is uncertain then waits for a report, for a look at the provider's list, or for people."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("DROP TABLE keyed_requests")
    op.execute("RESET ROLE")
