"""Let campaigns go out in waves, in variants, evenly, and at everybody's own hour."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import guard, statements

revision = "0012"
down_revision = "0010"
branch_labels = None
depends_on = None

_COLUMNS = (
    "delivery jsonb",
    "wave smallint",
    "waits_for_look boolean NOT NULL DEFAULT false",
    "late_count bigint NOT NULL DEFAULT 0",
)
_TABLES = """
CREATE TABLE campaign_variants (       -- what is compared; a recipient's follows from the campaign's and their own id
  tenant_id uuid NOT NULL, campaign_id uuid NOT NULL, n smallint NOT NULL, name text NOT NULL,
  width int NOT NULL CHECK (width BETWEEN 1 AND 10000), content_id uuid NOT NULL,
  template_id uuid NOT NULL, template_version int NOT NULL, subject text,
  PRIMARY KEY (tenant_id, campaign_id, n), UNIQUE (tenant_id, campaign_id, name), UNIQUE (tenant_id, campaign_id, content_id),
  FOREIGN KEY (tenant_id, campaign_id) REFERENCES campaigns (tenant_id, id) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, content_id) REFERENCES contents (tenant_id, id)
);
CREATE INDEX campaign_variants_content ON campaign_variants (tenant_id, content_id);
CREATE TABLE campaign_waves (          -- parts of an audience that go one after the other, each with its checkpoint
  tenant_id uuid NOT NULL, campaign_id uuid NOT NULL, n smallint NOT NULL,
  kind text NOT NULL CHECK (kind IN ('canary', 'test', 'rest')),
  bucket_from int NOT NULL, bucket_to int NOT NULL, member_count bigint NOT NULL, queued_count bigint NOT NULL DEFAULT 0,
  expanded_to uuid, expanded_at timestamptz, look_at timestamptz, looked_at timestamptz, found jsonb,
  verdict text CHECK (verdict IN ('go_on', 'stop')), why text, winner smallint, decided_by text, decided_at timestamptz,
  PRIMARY KEY (tenant_id, campaign_id, n),
  FOREIGN KEY (tenant_id, campaign_id) REFERENCES campaigns (tenant_id, id) ON DELETE CASCADE,
  CHECK (0 <= bucket_from AND bucket_from < bucket_to AND bucket_to <= 10000)
);
"""

_BUCKET = """
CREATE FUNCTION outrider_bucket(campaign uuid, contact uuid, place int) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT ('x' || substr(encode(sha256(uuid_send(campaign) || uuid_send(contact)), 'hex'), 2 * place + 1, 6))::bit(24)::int % 10000
$$
"""


def upgrade() -> None:
    """Add columns that are null nearly always, two tables, and buckets of campaigns."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE campaigns " + ", ".join(f"ADD COLUMN {column}" for column in _COLUMNS))
    for statement in statements(_TABLES):
        op.execute(statement)
    op.execute(_BUCKET)
    guard("campaign_variants", "SELECT, INSERT, UPDATE, DELETE")
    guard("campaign_waves", "SELECT, UPDATE")
    op.execute(
        "ALTER TABLE buckets DROP CONSTRAINT buckets_scope_check, "
        "ADD CONSTRAINT buckets_scope_check CHECK (scope IN ('tenant', 'sender', 'campaign'))"
    )
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away; campaigns under way go on to everybody at once."""
    op.execute("SET LOCAL ROLE outrider_owner")
    # they are walked from the beginning: the checkpoint was the wave's, and who has it already is passed over
    op.execute("UPDATE campaigns SET expanded_to = NULL WHERE wave IS NOT NULL AND expanded_at IS NULL")
    op.execute("DELETE FROM buckets WHERE scope = 'campaign'")
    op.execute(
        "ALTER TABLE buckets DROP CONSTRAINT buckets_scope_check, "
        "ADD CONSTRAINT buckets_scope_check CHECK (scope IN ('tenant', 'sender'))"
    )
    op.execute("DROP TABLE campaign_waves, campaign_variants")
    op.execute("DROP FUNCTION outrider_bucket(uuid, uuid, int)")
    op.execute("ALTER TABLE campaigns " + ", ".join(f"DROP COLUMN {each.split()[0]}" for each in _COLUMNS))
    op.execute("RESET ROLE")
