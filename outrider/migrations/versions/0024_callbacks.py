"""Make what callbacks need: what came in, what was refused, whom to take unsigned for a while, what people wrote."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import ALL, guard, statements

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE webhook_events (          -- every callback that counted, once: a repeat only adds to `repeats`
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), connection_id uuid NOT NULL, provider text NOT NULL, event_key text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('report', 'inbound', 'unknown')), word text NOT NULL, provider_id text NOT NULL DEFAULT '', message_id uuid,
  data jsonb NOT NULL DEFAULT '{}', body_hash bytea NOT NULL, signature text NOT NULL CHECK (signature IN ('genuine', 'excepted')), source text NOT NULL,
  state text NOT NULL CHECK (state IN ('new', 'parked', 'applied', 'orphan', 'unknown', 'unknown_number')), note text NOT NULL DEFAULT '',
  attempts int NOT NULL DEFAULT 0, due_at timestamptz NOT NULL DEFAULT now(), repeats int NOT NULL DEFAULT 0, is_conflicting boolean NOT NULL DEFAULT false,
  received_at timestamptz NOT NULL DEFAULT now(), applied_at timestamptz,
  PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, connection_id, event_key)
) WITH (fillfactor = 70);
CREATE INDEX webhook_events_due ON webhook_events (tenant_id, due_at) WHERE state IN ('new', 'parked');
CREATE INDEX webhook_events_received ON webhook_events (received_at);
CREATE TABLE webhook_refusals (        -- callbacks that were not taken, counted by the minute
  tenant_id uuid NOT NULL, connection_id uuid NOT NULL, minute timestamptz NOT NULL, source text NOT NULL, reason text NOT NULL, n bigint NOT NULL,
  PRIMARY KEY (tenant_id, connection_id, minute, source, reason)
);
CREATE INDEX webhook_refusals_minute ON webhook_refusals (minute);
CREATE TABLE callback_exceptions (     -- networks whose callbacks are taken without a right signature until a moment
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), connection_id uuid NOT NULL, network text NOT NULL, ends_at timestamptz NOT NULL,
  reason text NOT NULL, created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id) ON DELETE CASCADE
);
CREATE TABLE inbound_messages (        -- what people wrote to our numbers, and what they were answered at once
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), channel text NOT NULL, connection_id uuid NOT NULL, sender_id uuid, contact_id uuid,
  address text NOT NULL, number text NOT NULL, text text NOT NULL, media_count int NOT NULL DEFAULT 0, word text NOT NULL DEFAULT '',
  is_flagged boolean NOT NULL DEFAULT false, reply text NOT NULL DEFAULT '', provider_id text NOT NULL, received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX inbound_messages_address ON inbound_messages (tenant_id, channel, address, id);
CREATE INDEX inbound_messages_contact ON inbound_messages (tenant_id, contact_id, id);
"""
GUARDED = {
    "webhook_events": "SELECT",
    "webhook_refusals": "SELECT",
    "callback_exceptions": ALL,
    "inbound_messages": "SELECT",
}


def upgrade() -> None:
    """Make the tables; nothing that exists is touched."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for statement in statements(TABLES):
        op.execute(statement)
    for table, privileges in GUARDED.items():
        guard(table, privileges)
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away, and with them what is not applied yet."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for table in reversed(GUARDED):
        op.execute(f"DROP TABLE {table}")
    op.execute("RESET ROLE")
