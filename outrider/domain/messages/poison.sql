-- name: set_aside :run
-- Note messages that failed because workers died over them.
INSERT INTO poison_messages (tenant_id, message_id) SELECT $1, unnest($2::uuid[]) ON CONFLICT DO NOTHING;

-- name: listed :many
-- Messages that were set aside and still are, oldest first, after `$2`; those of a cancelled campaign stay failed.
SELECT p.message_id, p.since, m.address, m.campaign_id, l.channel, l.sender_id, m.attempts, coalesce(m.detail, '') AS detail
FROM poison_messages p
JOIN messages m ON m.tenant_id = p.tenant_id AND m.id = p.message_id
JOIN lanes l ON l.tenant_id = m.tenant_id AND l.id = m.lane_id
WHERE p.tenant_id = $1 AND p.message_id > $2 AND m.state = 'failed' AND m.code = 'poison' AND ($4::uuid IS NULL OR m.campaign_id = $4)
  AND NOT EXISTS (SELECT FROM campaigns c WHERE c.tenant_id = $1 AND c.id = m.campaign_id AND c.state = 'cancelled')
ORDER BY p.message_id LIMIT $3;

-- name: ids :many
-- The ids of those of a tenant, or of one campaign.
SELECT p.message_id FROM poison_messages p JOIN messages m ON m.tenant_id = p.tenant_id AND m.id = p.message_id
WHERE p.tenant_id = $1 AND m.state = 'failed' AND m.code = 'poison' AND ($2::uuid IS NULL OR m.campaign_id = $2)
  AND NOT EXISTS (SELECT FROM campaigns c WHERE c.tenant_id = $1 AND c.id = m.campaign_id AND c.state = 'cancelled')
ORDER BY p.message_id LIMIT $3;

-- name: requeue :many
-- Queue messages that were set aside once more, each alone: `$5` deaths of workers are on its account already. What a provider
-- or somebody else settled meanwhile stays as it is, and what was cancelled with its campaign is never sent. Nobody waits for who
-- writes one of them.
WITH held AS (
  SELECT m.id FROM unnest($2::uuid[]) t(id) JOIN messages m ON m.tenant_id = $1 AND m.id = t.id
  WHERE m.state = 'failed' AND m.code = 'poison'
    AND NOT EXISTS (SELECT FROM campaigns c WHERE c.tenant_id = $1 AND c.id = m.campaign_id AND c.state = 'cancelled')
  ORDER BY m.id FOR UPDATE OF m SKIP LOCKED
), gone AS (
  DELETE FROM poison_messages p USING held h WHERE p.tenant_id = $1 AND p.message_id = h.id RETURNING p.message_id
), ledger AS (
  UPDATE messages m SET state = 'queued', code = NULL, detail = NULL, finished_at = NULL FROM gone g
  WHERE m.tenant_id = $1 AND m.id = g.message_id
  RETURNING m.id, m.lane_id, m.priority, m.attempts, m.attempted_at
), waiting AS (
  INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state, attempt, attempted_at, crashes)
  SELECT $1, id, lane_id, now(), priority, 0, attempts, attempted_at, $5 FROM ledger
), opened AS ( -- also a lane that is open: its lock keeps whoever would close it until this is committed
  UPDATE lanes l SET is_open = true FROM (SELECT DISTINCT lane_id FROM ledger) g WHERE l.tenant_id = $1 AND l.id = g.lane_id
), deltas AS (
  INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, code, n)
  SELECT $1, lane_id, date_trunc('hour', now()), 'failed', 'poison', -count(*) FROM ledger GROUP BY 2
), events AS (
  INSERT INTO message_events (tenant_id, message_id, kind, data)
  SELECT $1, id, 'resent', jsonb_build_object('actor', $3::text, 'reason', $4::text) FROM ledger
)
SELECT id FROM ledger;

-- name: forget :run
-- Forget that these were set aside: their person is erased, and nothing may go to them again.
DELETE FROM poison_messages WHERE tenant_id = $1 AND message_id = ANY ($2::uuid[]);

-- name: standing :one
-- How many messages of the whole installation are set aside and still are, as `listed`, and since when the newest of them is. One
-- look by its key for each: a plan for a list of unknown length may read the whole ledger instead.
-- tenant: none, because operators see the whole installation as aggregates
SELECT count(*) AS n, max(p.since) AS newest_at
FROM poison_messages p
CROSS JOIN LATERAL (SELECT m.state, m.code, m.campaign_id FROM messages m WHERE m.tenant_id = p.tenant_id AND m.id = p.message_id LIMIT 1) m
WHERE m.state = 'failed' AND m.code = 'poison'
  AND NOT EXISTS (SELECT FROM campaigns c WHERE c.tenant_id = p.tenant_id AND c.id = m.campaign_id AND c.state = 'cancelled');

-- name: poison_purge :run
-- Drop what was noted more than `$1` days ago, `$2` at a time: the messages are gone by then as well.
-- tenant: none, because retention is the installation's
DELETE FROM poison_messages WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM poison_messages WHERE since < now() - $1 * interval '1 day' ORDER BY since LIMIT $2));
