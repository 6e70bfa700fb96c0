-- Statements of the quota of open messages: how many there are, how many there may be.

-- name: open_room :one
-- How many messages of a tenant and of all tenants are open as of the last fold, and how many may be: rows by their keys.
SELECT coalesce(c.transactional, 0) AS transactional, coalesce(c.bulk, 0) AS bulk, coalesce(a.transactional + a.bulk, 0) AS in_all,
       t.open_most AS own_most, i.open_most AS most_in_all, i.tenant_open_most AS tenant_most, i.open_bulk_percent AS bulk_percent
FROM installation i
JOIN tenants t ON t.id = $1
LEFT JOIN open_counts c ON c.tenant_id = $1
LEFT JOIN open_counts a ON a.tenant_id = '00000000-0000-0000-0000-000000000000';

-- name: open_now :value
-- How many messages of a tenant are open now: what was folded and what was not yet, of one snapshot.
SELECT coalesce((SELECT c.transactional + c.bulk FROM open_counts c WHERE c.tenant_id = $1), 0)
     + (SELECT coalesce(sum(CASE d.state WHEN 'accepted' THEN d.n ELSE -d.n END), 0) FROM rollup_deltas d WHERE d.tenant_id = $1)::bigint;

-- name: open_now_in_all :value
-- As `open_now`, of all tenants.
-- tenant: none, because it counts the whole installation
SELECT coalesce((SELECT c.transactional + c.bulk FROM open_counts c WHERE c.tenant_id = '00000000-0000-0000-0000-000000000000'), 0)
     + (SELECT coalesce(sum(CASE d.state WHEN 'accepted' THEN d.n ELSE -d.n END), 0) FROM rollup_deltas d)::bigint;

-- name: open_in_all :one
-- How many messages are open, and how many may be, of the whole installation.
-- tenant: none, because operators see the whole installation as aggregates
SELECT coalesce(a.transactional, 0) AS transactional, coalesce(a.bulk, 0) AS bulk, i.open_most AS most_in_all,
       i.tenant_open_most AS tenant_most, i.open_bulk_percent AS bulk_percent
FROM installation i LEFT JOIN open_counts a ON a.tenant_id = '00000000-0000-0000-0000-000000000000';

-- name: open_fullest :many
-- The tenants whose quotas are filled the most, with those that have one of their own; `$1` what holds for others, `$2` at most.
-- tenant: none, because operators see which tenant fills the queue
SELECT t.id, t.name, coalesce(c.transactional, 0) AS transactional, coalesce(c.bulk, 0) AS bulk, t.open_most AS own_most
FROM tenants t LEFT JOIN open_counts c ON c.tenant_id = t.id
WHERE c.transactional + c.bulk > 0 OR t.open_most IS NOT NULL
ORDER BY coalesce(c.transactional + c.bulk, 0)::float8 / greatest(coalesce(t.open_most, $1::bigint), 1) DESC, t.name LIMIT $2;

-- name: fold_turn :run
-- Folding goes on beside folding, but not while everything is counted anew.
-- tenant: none, because it names no table
SELECT pg_advisory_xact_lock_shared(hashtextextended('open_counts', 0));

-- name: is_folded :value
-- Whether a worker has folded lately, so that nobody else need do it.
-- tenant: none, because processes serve every tenant
SELECT EXISTS (SELECT FROM workers WHERE state = 'running' AND heartbeat_at > clock_timestamp() - $1 * interval '1 second'
               AND (loops ->> 'fold_rollups')::float8 < $1);

-- name: recount_turn :value
-- Hold every fold until this transaction ends, and tell whether the last count is at least `$1` seconds old.
-- tenant: none, because it counts the whole installation
SELECT coalesce((SELECT counted_at < now() - $1 * interval '1 second' FROM open_counts
                 WHERE tenant_id = '00000000-0000-0000-0000-000000000000'), true)
FROM (SELECT pg_advisory_xact_lock(hashtextextended('open_counts', 0)) OFFSET 0) held;

-- name: recount :many
-- Count open messages anew: the queue, less what is not folded yet, of one snapshot. Gives the tenants whose counts were wrong.
-- tenant: none, because it counts the whole installation
WITH found AS MATERIALIZED (
  SELECT x.tenant_id, sum(x.n) FILTER (WHERE l.message_class = 'transactional') AS transactional,
         sum(x.n) FILTER (WHERE l.message_class IS DISTINCT FROM 'transactional') AS bulk
  FROM (SELECT tenant_id, lane_id, count(*) AS n FROM queue GROUP BY 1, 2
        UNION ALL SELECT tenant_id, lane_id, sum(CASE state WHEN 'accepted' THEN -n ELSE n END) FROM rollup_deltas GROUP BY 1, 2) x
  LEFT JOIN lanes l ON l.tenant_id = x.tenant_id AND l.id = x.lane_id
  GROUP BY GROUPING SETS ((x.tenant_id), ())
), wanted AS MATERIALIZED (
  SELECT coalesce(f.tenant_id, c.tenant_id, '00000000-0000-0000-0000-000000000000') AS tenant_id, coalesce(f.transactional, 0) AS transactional,
         coalesce(f.bulk, 0) AS bulk,
         (coalesce(c.transactional, 0), coalesce(c.bulk, 0)) IS DISTINCT FROM (coalesce(f.transactional, 0), coalesce(f.bulk, 0)) AS is_other
  FROM found f FULL JOIN open_counts c ON c.tenant_id = coalesce(f.tenant_id, '00000000-0000-0000-0000-000000000000')
), kept AS (
  INSERT INTO open_counts (tenant_id, transactional, bulk, counted_at)
  SELECT tenant_id, transactional, bulk, now() FROM wanted WHERE is_other OR tenant_id = '00000000-0000-0000-0000-000000000000' ORDER BY tenant_id
  ON CONFLICT (tenant_id) DO UPDATE SET transactional = excluded.transactional, bulk = excluded.bulk, counted_at = excluded.counted_at
)
SELECT tenant_id, transactional::bigint AS transactional, bulk::bigint AS bulk FROM wanted
WHERE is_other AND tenant_id <> '00000000-0000-0000-0000-000000000000';
