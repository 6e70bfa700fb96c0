"""Make what public pages need: looks of tenants, lists on offer, lists people turned off, forms and who filled them in."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import ALL, guard, statements

revision = "0019"
down_revision = "0017"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE tenant_looks (            -- how a tenant's public pages look; without a row: plainly, with the tenant's name
  tenant_id uuid NOT NULL, display_name text NOT NULL DEFAULT '', colour text NOT NULL DEFAULT '', colour_dark text NOT NULL DEFAULT '',
  footer text NOT NULL DEFAULT '', logo bytea, logo_type text, changed_by text NOT NULL, changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id),
  CONSTRAINT tenant_looks_logo_check CHECK ((logo IS NULL) = (logo_type IS NULL))
);
CREATE TABLE list_offers (             -- lists that people may turn on and off themselves, with what they read about them
  tenant_id uuid NOT NULL, list_id uuid NOT NULL, title text NOT NULL, description text NOT NULL DEFAULT '',
  place int NOT NULL DEFAULT 0, offered_by text NOT NULL, offered_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, list_id),
  FOREIGN KEY (tenant_id, list_id) REFERENCES lists (tenant_id, id) ON DELETE CASCADE
);
CREATE TABLE list_refusals (           -- lists that a person turned off: nobody but they puts them on again
  tenant_id uuid NOT NULL, contact_id uuid NOT NULL, list_id uuid NOT NULL, source text NOT NULL, at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, contact_id, list_id),
  FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts (tenant_id, id) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, list_id) REFERENCES lists (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX list_refusals_list ON list_refusals (tenant_id, list_id);
CREATE TABLE signup_forms (
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), name text NOT NULL, title text NOT NULL, intro text NOT NULL DEFAULT '',
  consent_text text NOT NULL, purpose text NOT NULL, sender_id uuid NOT NULL, asks_name boolean NOT NULL DEFAULT false,
  is_open boolean NOT NULL DEFAULT true, version int NOT NULL DEFAULT 1, created_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, name),
  FOREIGN KEY (tenant_id, sender_id) REFERENCES senders (tenant_id, id)
);
CREATE TABLE signup_form_lists (       -- which lists a form offers; withdrawing an offer takes it off the forms
  tenant_id uuid NOT NULL, form_id uuid NOT NULL, list_id uuid NOT NULL,
  PRIMARY KEY (tenant_id, form_id, list_id),
  FOREIGN KEY (tenant_id, form_id) REFERENCES signup_forms (tenant_id, id) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, list_id) REFERENCES list_offers (tenant_id, list_id) ON DELETE CASCADE
);
CREATE INDEX signup_form_lists_list ON signup_form_lists (tenant_id, list_id);
CREATE TABLE signups (                 -- who filled a form in and has, or has not yet, confirmed by the link in a mail
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), form_id uuid NOT NULL, form_version int NOT NULL,
  address_hash bytea NOT NULL, address text NOT NULL, name text NOT NULL DEFAULT '', list_ids jsonb NOT NULL,
  text_shown text NOT NULL, source text NOT NULL, ip text,
  state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'confirmed', 'refused', 'expired')),
  mail_count int NOT NULL DEFAULT 0, mailed_at timestamptz, created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL, settled_at timestamptz,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, form_id) REFERENCES signup_forms (tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX signups_waiting ON signups (tenant_id, form_id, address_hash) WHERE state = 'waiting';
CREATE INDEX signups_address ON signups (tenant_id, address_hash);
CREATE INDEX signups_mailed ON signups (tenant_id, mailed_at);
"""
GUARDED = {
    "tenant_looks": ALL,
    "list_offers": ALL,
    "list_refusals": ALL,
    "signup_forms": ALL,
    "signup_form_lists": ALL,
    "signups": "SELECT",
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
    """Take them away: addresses of public pages lead nowhere then, and lists turned off are forgotten."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for table in reversed(GUARDED):
        op.execute(f"DROP TABLE {table}")
    op.execute("RESET ROLE")
