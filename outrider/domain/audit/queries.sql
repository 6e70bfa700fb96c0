-- name: head_lock :one
-- Lock the tip of a tenant's chain (made on first use) and read the clock after the wait: entries are in order of time.
INSERT INTO audit_heads AS h (tenant_id, seq, hash) VALUES ($1, 0, $2)
ON CONFLICT (tenant_id) DO UPDATE SET seq = h.seq
RETURNING seq, hash, clock_timestamp() AS at;

-- name: entry_add :run
-- Write one entry and move the tip to it.
WITH entry AS (
  INSERT INTO audit_log (tenant_id, seq, at, actor_kind, actor, action, target_kind, target_id, reason, details, ip, previous_hash, hash)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb, $11, $12, $13)
)
UPDATE audit_heads SET seq = $2, hash = $13 WHERE tenant_id = $1;

-- name: entries_after :many
-- One batch of a chain in its order, for verification.
SELECT tenant_id, seq, at, actor_kind, actor, action, target_kind, target_id, reason, details, ip, previous_hash, hash
FROM audit_log WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT $3;

-- name: entries_before :many
-- One page of the log, newest first; empty filters do not filter.
SELECT tenant_id, seq, at, actor_kind, actor, action, target_kind, target_id, reason, details, ip, previous_hash, hash
FROM audit_log
WHERE tenant_id = $1 AND seq < $2 AND ($3 = '' OR action = $3) AND ($4 = '' OR actor = $4) AND ($5 = '' OR target_id = $5)
ORDER BY seq DESC LIMIT $6;

-- name: head_read :one
-- The tip of one chain.
SELECT seq, hash FROM audit_heads WHERE tenant_id = $1;

-- name: heads_all :many
-- The tips of every chain, for the daily log line and the backup manifest.
-- tenant: none, because the log line names every tenant's head at once
SELECT tenant_id, seq, hash FROM audit_heads ORDER BY tenant_id;

-- name: prunable :one
-- The last entry older than a moment, below which entries may be taken away.
SELECT seq, hash FROM audit_log WHERE tenant_id = $1 AND at < $2 ORDER BY seq DESC LIMIT 1;

-- name: entries_prune :run
-- Take away old entries; the entry `audit.prune` in the chain says up to which one.
DELETE FROM audit_log WHERE tenant_id = $1 AND seq <= $2;
