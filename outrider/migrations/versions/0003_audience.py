"""Make what audiences need: tags, typed attributes, merged contacts, segments, frozen audiences, exports, erasures.

A campaign goes to a list or to a segment, less its exclusions. What it was when it was launched is kept with it.
"""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import ALL, guard, statements

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE attribute_definitions (   -- what an attribute holds; those without a definition hold any JSON
  tenant_id uuid NOT NULL, key text NOT NULL,
  type text NOT NULL CHECK (type IN ('text', 'number', 'boolean', 'date', 'moment', 'choice')),
  label text NOT NULL DEFAULT '', choices jsonb NOT NULL DEFAULT '[]',
  created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, key)
);
CREATE TABLE contact_tags (
  tenant_id uuid NOT NULL, contact_id uuid NOT NULL, tag text NOT NULL, added_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, contact_id, tag),
  FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX contact_tags_tag ON contact_tags (tenant_id, tag, contact_id);
CREATE INDEX list_members_contact ON list_members (tenant_id, contact_id, list_id);
CREATE TABLE contact_merges (          -- a contact that became another one: its old id still leads somewhere
  tenant_id uuid NOT NULL, merged_id uuid NOT NULL, contact_id uuid NOT NULL, merged_by text NOT NULL,
  merged_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, merged_id),
  FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX contact_merges_contact ON contact_merges (tenant_id, contact_id);
CREATE TABLE segments (
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), name text NOT NULL, description text NOT NULL DEFAULT '',
  rules jsonb NOT NULL, contact_count bigint, counted_at timestamptz,
  created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, name)
);
ALTER TABLE campaigns ALTER COLUMN list_id DROP NOT NULL;
ALTER TABLE campaigns ADD COLUMN segment_id uuid, ADD COLUMN exclusions jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN audience jsonb, ADD COLUMN audience_at timestamptz, ADD COLUMN audience_count bigint;
ALTER TABLE campaigns ADD CONSTRAINT campaigns_audience_check CHECK (num_nonnulls(list_id, segment_id) = 1);
ALTER TABLE campaigns ADD FOREIGN KEY (tenant_id, segment_id) REFERENCES segments (tenant_id, id);
CREATE TABLE campaign_audience (       -- who belongs to a launched campaign's segment; emptied when it has ended
  tenant_id uuid NOT NULL, campaign_id uuid NOT NULL, contact_id uuid NOT NULL,
  PRIMARY KEY (tenant_id, campaign_id, contact_id)
);
CREATE TABLE exports (                 -- files made of a tenant's data; the file is below the data directory
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), kind text NOT NULL CHECK (kind IN ('person', 'contacts')),
  contact_id uuid, options jsonb NOT NULL DEFAULT '{}', job_id uuid,
  state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'completed', 'failed', 'expired', 'erased')),
  row_count bigint NOT NULL DEFAULT 0, size_bytes bigint, sha256 bytea, error text,
  created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz, expires_at timestamptz,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX exports_contact ON exports (tenant_id, contact_id);
CREATE TABLE erasures (                -- who was erased when, without saying who it was: hashes to do it again after a restore
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), contact_ids jsonb NOT NULL DEFAULT '[]', addresses jsonb NOT NULL DEFAULT '[]',
  state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'completed')), job_id uuid,
  checkpoint uuid, message_count bigint NOT NULL DEFAULT 0, file_count bigint NOT NULL DEFAULT 0,
  reason text NOT NULL, created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz,
  PRIMARY KEY (tenant_id, id)
);
"""
GUARDED = {
    "attribute_definitions": ALL,
    "contact_tags": ALL,
    "contact_merges": "SELECT",
    "segments": ALL,
    "campaign_audience": "SELECT",
    "exports": "SELECT, INSERT, UPDATE",
    "erasures": "SELECT, INSERT, UPDATE",
}


def upgrade() -> None:
    """Make them; nothing that exists is written anew but the index of list members by contact."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for statement in statements(TABLES):
        op.execute(statement)
    for table, privileges in GUARDED.items():
        guard(table, privileges)
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away; campaigns to segments stand in the way and are named by the constraint that fails."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE campaigns DROP COLUMN segment_id, DROP COLUMN exclusions, DROP COLUMN audience")
    op.execute("ALTER TABLE campaigns DROP COLUMN audience_at, DROP COLUMN audience_count")
    op.execute("ALTER TABLE campaigns ALTER COLUMN list_id SET NOT NULL")
    op.execute("DROP INDEX list_members_contact")
    for table in ("erasures", "exports", "campaign_audience", "segments", "contact_merges", "contact_tags"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP TABLE attribute_definitions")
    op.execute("RESET ROLE")
