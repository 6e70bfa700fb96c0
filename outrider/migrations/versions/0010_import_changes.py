"""Keep what each import changed, so that it can be shown and undone; imports of suppressions and consents; exports."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import guard, statements

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE import_changes (          -- what an import did, or a dry run would do, to one contact; undo reads it
  tenant_id uuid NOT NULL, import_id uuid NOT NULL, contact_id uuid NOT NULL, line bigint NOT NULL, address text NOT NULL,
  is_new boolean NOT NULL, before jsonb NOT NULL, after jsonb NOT NULL, at timestamptz NOT NULL DEFAULT now(),
  outcome text CHECK (outcome IN ('restored', 'deleted', 'partly', 'left')), reasons jsonb NOT NULL DEFAULT '[]',
  PRIMARY KEY (tenant_id, import_id, contact_id)
);
CREATE INDEX import_changes_contact ON import_changes (tenant_id, contact_id);
CREATE TABLE import_keys (             -- addresses and external ids that a dry run under way has met; dropped at its end
  tenant_id uuid NOT NULL, import_id uuid NOT NULL, key text NOT NULL, contact_id uuid NOT NULL,
  PRIMARY KEY (tenant_id, import_id, key)
);
ALTER TABLE imports ADD COLUMN kind text NOT NULL DEFAULT 'contacts', ADD COLUMN is_dry_run boolean NOT NULL DEFAULT false,
  ADD COLUMN rejected_by jsonb NOT NULL DEFAULT '{}', ADD COLUMN undo_state text, ADD COLUMN undo_job_id uuid,
  ADD COLUMN restored_count bigint NOT NULL DEFAULT 0, ADD COLUMN deleted_count bigint NOT NULL DEFAULT 0,
  ADD COLUMN left_count bigint NOT NULL DEFAULT 0;
ALTER TABLE imports ADD CONSTRAINT imports_kind_check CHECK (kind IN ('contacts', 'suppressions', 'consents'));
ALTER TABLE imports ADD CONSTRAINT imports_undo_state_check CHECK (undo_state IN ('running', 'completed', 'cancelled', 'failed'));
ALTER TABLE exports DROP CONSTRAINT exports_kind_check;
ALTER TABLE exports ADD CONSTRAINT exports_kind_check CHECK (kind IN ('person', 'contacts', 'lists', 'suppressions', 'consents'));
DROP TABLE contacts_staging;
"""
_STAGING = (
    "CREATE UNLOGGED TABLE contacts_staging (tenant_id uuid NOT NULL, import_id uuid NOT NULL, line bigint NOT NULL, "
    "address text NOT NULL, external_id text, name text NOT NULL, attributes jsonb NOT NULL, timezone text, "
    "locale text, consent text, contact_id uuid NOT NULL, state smallint NOT NULL, "
    "PRIMARY KEY (tenant_id, import_id, line)) "
    "WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000)"
)
_COLUMNS = (
    "kind", "is_dry_run", "rejected_by", "undo_state", "undo_job_id", "restored_count", "deleted_count", "left_count",
)  # fmt: skip


def upgrade() -> None:
    """Make the tables; the staging table of COPY goes, as batches are written from arrays."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for statement in statements(TABLES):
        op.execute(statement)
    for table in ("import_changes", "import_keys"):
        guard(table, "SELECT")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away; what imports changed can no longer be undone."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("DROP TABLE import_changes")
    op.execute("DROP TABLE import_keys")
    op.execute("ALTER TABLE imports " + ", ".join(f"DROP COLUMN {each}" for each in _COLUMNS))
    op.execute("DELETE FROM exports WHERE kind NOT IN ('person', 'contacts')")
    op.execute("ALTER TABLE exports DROP CONSTRAINT exports_kind_check")
    op.execute("ALTER TABLE exports ADD CONSTRAINT exports_kind_check CHECK (kind IN ('person', 'contacts'))")
    op.execute(_STAGING)
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON contacts_staging TO outrider_engine")
    op.execute("RESET ROLE")
