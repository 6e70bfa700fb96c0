"""Make what noticing opens and clicks needs: who wants none of it, where links lead, what came in, what it adds up to."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import ALL, guard, statements

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE tracking_switches (       -- what a tenant, sender or campaign wants noticed; without a row: opens and clicks of bulk messages
  tenant_id uuid NOT NULL, scope text NOT NULL CHECK (scope IN ('tenant', 'sender', 'campaign')), scope_id uuid NOT NULL,
  opens boolean NOT NULL DEFAULT true, clicks boolean NOT NULL DEFAULT true, transactional boolean NOT NULL DEFAULT false,
  changed_by text NOT NULL, changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, scope, scope_id)
);
CREATE TABLE tracked_links (           -- where a link leads; written before the first message with it leaves
  tenant_id uuid NOT NULL, key bigint NOT NULL, url text NOT NULL, parts jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, key)
);
CREATE TABLE tracking_hits (           -- what came in and waits a few seconds to be judged; kind 1 opening, 2 click
  tenant_id uuid NOT NULL, message_id uuid NOT NULL, at timestamptz NOT NULL, kind smallint NOT NULL, link bigint NOT NULL,
  machine text NOT NULL, n int NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
CREATE INDEX tracking_hits_at ON tracking_hits (tenant_id, at);
CREATE INDEX tracking_hits_message ON tracking_hits (tenant_id, message_id);
CREATE TABLE message_responses (       -- per message: opened, clicked at all (link 0) and each link, people and machines apart
  tenant_id uuid NOT NULL, message_id uuid NOT NULL, kind smallint NOT NULL, link bigint NOT NULL, is_machine boolean NOT NULL,
  first_at timestamptz NOT NULL, last_at timestamptz NOT NULL, hits int NOT NULL, machine text NOT NULL DEFAULT '',
  PRIMARY KEY (tenant_id, message_id, kind, link, is_machine)
) WITH (fillfactor = 80);
CREATE TABLE response_counts (         -- what responses add up to, by hour for every lane; by link, domain and content for campaigns
  tenant_id uuid NOT NULL, lane_id int NOT NULL, facet text NOT NULL CHECK (facet IN ('hour', 'link', 'domain', 'content')), key text NOT NULL,
  kind smallint NOT NULL, is_machine boolean NOT NULL, hits bigint NOT NULL, messages bigint NOT NULL,
  PRIMARY KEY (tenant_id, lane_id, facet, key, kind, is_machine)
) WITH (fillfactor = 50);
CREATE TABLE web_versions (            -- campaigns whose content anybody with the address may read, and with which values
  tenant_id uuid NOT NULL, campaign_id uuid NOT NULL, code bytea NOT NULL, variables jsonb NOT NULL DEFAULT '{}',
  created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, campaign_id),
  FOREIGN KEY (tenant_id, campaign_id) REFERENCES campaigns (tenant_id, id) ON DELETE CASCADE
);
"""
GUARDED = {
    "tracking_switches": ALL,
    "tracked_links": "SELECT",
    "tracking_hits": "SELECT",
    "message_responses": "SELECT",
    "response_counts": "SELECT",
    "web_versions": ALL,
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
    """Take them away: links in messages sent before lead nowhere then."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for table in reversed(GUARDED):
        op.execute(f"DROP TABLE {table}")
    op.execute("RESET ROLE")
