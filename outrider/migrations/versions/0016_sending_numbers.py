"""Make what texts need: pools of numbers, who hears from which, and what ends a bulk text."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import ALL, READERS, guard, statements

revision = "0016"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE pool_numbers (            -- numbers that senders send from and people answer to
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), number text NOT NULL, sender_id uuid NOT NULL,
  is_active boolean NOT NULL DEFAULT true, created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, number),
  FOREIGN KEY (tenant_id, sender_id) REFERENCES senders (tenant_id, id)
);
CREATE INDEX pool_numbers_sender ON pool_numbers (tenant_id, sender_id);
CREATE TABLE sticky_numbers (          -- from which number of a pool somebody hears, so that it stays the same
  tenant_id uuid NOT NULL, sender_id uuid NOT NULL, address text NOT NULL, number text NOT NULL, since timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, sender_id, address)
);
CREATE INDEX sticky_numbers_number ON sticky_numbers (tenant_id, sender_id, number);
"""

VIEW = """
CREATE VIEW sending_numbers WITH (security_invoker = true) AS
SELECT p.tenant_id, t.name AS tenant, p.number AS phone_e164, p.sender_id, s.name AS sender, s.connection_id, p.is_active AND s.archived_at IS NULL AS is_active, p.created_at
FROM pool_numbers p
LEFT JOIN senders s ON s.tenant_id = p.tenant_id AND s.id = p.sender_id
LEFT JOIN tenants t ON t.id = p.tenant_id
UNION ALL
SELECT s.tenant_id, t.name, s.from_address, s.id, s.name, s.connection_id, s.archived_at IS NULL, s.created_at
FROM senders s JOIN tenants t ON t.id = s.tenant_id
WHERE s.channel = 'sms' AND s.from_address ~ '^[+]?[0-9]+$'
  AND NOT EXISTS (SELECT FROM pool_numbers p WHERE p.tenant_id = s.tenant_id AND p.number = s.from_address)
"""


def upgrade() -> None:
    """Make the tables, the runbook's view and the column."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE senders ADD COLUMN opt_out_line text NOT NULL DEFAULT ''")
    for statement in statements(TABLES):
        op.execute(statement)
    guard("pool_numbers", ALL)
    guard("sticky_numbers", "SELECT, DELETE")
    # who reads the view needs these columns of senders, and none of its secrets
    op.execute(
        "GRANT SELECT (tenant_id, id, name, channel, connection_id, from_address, created_at, archived_at) "
        f"ON senders TO {READERS}"
    )
    op.execute(VIEW)
    op.execute(f"GRANT SELECT ON sending_numbers TO outrider_app, outrider_engine, {READERS}")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away; senders send from their own address again."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("DROP VIEW sending_numbers")
    op.execute(
        "REVOKE SELECT (tenant_id, id, name, channel, connection_id, from_address, created_at, archived_at) "
        "ON senders FROM outrider_ops, outrider_readonly"
    )
    op.execute("DROP TABLE sticky_numbers")
    op.execute("DROP TABLE pool_numbers")
    op.execute("ALTER TABLE senders DROP COLUMN opt_out_line")
    op.execute("RESET ROLE")
