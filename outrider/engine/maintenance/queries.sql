-- Statements of upkeep: retention and partitions over every tenant.

-- name: short_lock :run
-- Wait for table locks two seconds at most, so that upkeep never stands in the way of sending.
-- tenant: none, because it sets a limit of this transaction
SELECT set_config('lock_timeout', '2000', true);

-- name: make_partitions :value
-- Make the monthly partitions of the coming months; gives how many were made.
-- tenant: none, because partitions hold every tenant's rows
SELECT outrider_make_partitions($1);

-- name: drop_month :value
-- Drop one month (YYYYMM) of the ledger and its events.
-- tenant: none, because partitions hold every tenant's rows
SELECT outrider_drop_month($1);

-- name: imports_purge :run
-- Drop import records (their row errors with them) older than `$1` days.
-- tenant: none, because retention is the installation's
DELETE FROM imports WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM imports WHERE finished_at < now() - $1 * interval '1 day' LIMIT $2));

-- name: sessions_purge :run
-- Drop sessions that are over; `$1` days are added.
-- tenant: none, because retention is the installation's
DELETE FROM sessions WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM sessions WHERE expires_at < now() - $1 * interval '1 day' LIMIT $2));

-- name: contents_purge :run
-- Drop inline contents older than `$1` days that no template version, campaign or open message uses.
-- tenant: none, because retention is the installation's
DELETE FROM contents WHERE ctid = ANY (ARRAY(
  SELECT c.ctid FROM contents c
  WHERE c.created_at < now() - $1 * interval '1 day'
    AND NOT EXISTS (SELECT 1 FROM template_versions v WHERE v.tenant_id = c.tenant_id AND v.content_id = c.id)
    AND NOT EXISTS (SELECT 1 FROM campaigns p WHERE p.tenant_id = c.tenant_id AND p.content_id = c.id)
    AND NOT EXISTS (SELECT 1 FROM queue q JOIN messages m ON m.tenant_id = q.tenant_id AND m.id = q.message_id
                    WHERE q.tenant_id = c.tenant_id AND m.content_id = c.id)
    AND NOT EXISTS (SELECT 1 FROM uncertain_messages u JOIN messages m ON m.tenant_id = u.tenant_id AND m.id = u.message_id
                    WHERE u.tenant_id = c.tenant_id AND m.content_id = c.id)
  LIMIT $2));

-- name: audit_purge :run
-- Drop audit entries older than `$1` days; verification then begins at the oldest entry that is left.
-- tenant: none, because retention is the installation's
DELETE FROM audit_log WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM audit_log WHERE at < now() - $1 * interval '1 day' ORDER BY at LIMIT $2));

-- name: audit_heads :many
-- The head of every audit chain.
-- tenant: none, because the heads are written to the installation's log
SELECT tenant_id, seq, hash FROM audit_heads ORDER BY tenant_id;
