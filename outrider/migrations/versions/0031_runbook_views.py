"""Show messages and the do-not-contact list under the names and in the words of the SMS runbook, for people with psql.

Read-only: what is changed goes through the API and the command line, so that it is checked and audited.
"""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import READERS

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

# What a gate blocked counts as failed here, with the gate as its reason, as it did there. An id holds the time it was minted.
SEND_JOBS = """
CREATE VIEW send_jobs WITH (security_invoker = true) AS
SELECT m.tenant_id, m.id, m.campaign_id, m.contact_id, m.channel, m.address, CASE WHEN m.channel = 'sms' THEN m.address END AS phone_e164,
       CASE m.state WHEN 'blocked' THEN 'failed' WHEN 'expired' THEN 'failed' WHEN 'bounced' THEN 'undelivered' ELSE m.state END AS status,
       CASE
         WHEN m.state = 'expired' THEN 'Expired'
         WHEN m.state = 'blocked' THEN upper(left(m.code, 1)) || replace(substr(m.code, 2), '_', ' ')
         WHEN m.state NOT IN ('failed', 'bounced') THEN NULL
         WHEN m.code IN ('number_invalid', 'number_landline', 'handset_unknown') THEN 'Invalid phone'
         WHEN m.code IN ('mailbox_unavailable', 'bounced_permanently') THEN 'Invalid address'
         WHEN m.code IN ('render_failed', 'poison', 'plugin_failed') THEN 'Internal error'
         ELSE 'Provider error'
       END AS failure_reason,
       m.state, m.code, m.detail, m.waiting_for, m.attempts, m.provider_id AS provider_message_id,
       CASE WHEN m.channel = 'sms' THEN coalesce(
         (SELECT n.number FROM sticky_numbers n WHERE n.tenant_id = m.tenant_id AND n.sender_id = m.sender_id AND n.address = m.address),
         (SELECT s.from_address FROM senders s WHERE s.tenant_id = m.tenant_id AND s.id = m.sender_id)
       ) END AS sending_number,
       (SELECT ceil(sum(c.micros) / 10000.0)::bigint FROM charges c WHERE c.tenant_id = m.tenant_id AND c.message_id = m.id) AS cost_cents,
       to_timestamp(('x' || lpad(left(replace(m.id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint / 1000.0) AS created_at,
       m.due_at, m.attempted_at, m.finished_at,
       (SELECT min(e.at) FROM message_events e WHERE e.tenant_id = m.tenant_id AND e.message_id = m.id AND e.kind = 'delivered') AS delivered_at
FROM message_states m
"""
DO_NOT_CONTACT = """
CREATE VIEW do_not_contact WITH (security_invoker = true) AS
SELECT tenant_id, channel, address, CASE WHEN channel = 'sms' THEN address END AS phone_e164, CASE WHEN channel = 'email' THEN address END AS email,
       scope, reason, source, note, created_by, created_at, tenant_id = '00000000-0000-0000-0000-000000000000' AS is_installation
FROM suppressions
"""


def upgrade() -> None:
    """Make the views."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for name, view in (("send_jobs", SEND_JOBS), ("do_not_contact", DO_NOT_CONTACT)):
        op.execute(view)
        op.execute(f"GRANT SELECT ON {name} TO outrider_app, outrider_engine, {READERS}")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("DROP VIEW do_not_contact")
    op.execute("DROP VIEW send_jobs")
    op.execute("RESET ROLE")
