-- name: sending :many
-- Campaigns that send, since when their losses count, and how many of their messages came back in these two hours: where that
-- number is as it was at the last look nothing more came back. `$1` are the codes of a failure that is an address's.
-- tenant: none, because one look serves every tenant
SELECT c.tenant_id, c.id AS campaign_id, c.channel, coalesce(b.counted_from, c.launched_at, c.created_at) AS since,
       date_trunc('hour', now()) AS hour, r.bounced
FROM campaigns c
LEFT JOIN campaign_brakes b ON b.tenant_id = c.tenant_id AND b.campaign_id = c.id
CROSS JOIN LATERAL (
  SELECT coalesce(sum(x.n), 0)::bigint AS bounced
  FROM (SELECT n, state, code FROM rollups
        WHERE tenant_id = c.tenant_id AND lane_id = c.lane_id AND hour >= date_trunc('hour', now()) - interval '1 hour'
        UNION ALL
        SELECT n, state, code FROM rollup_deltas
        WHERE tenant_id = c.tenant_id AND lane_id = c.lane_id AND hour >= date_trunc('hour', now()) - interval '1 hour') x
  WHERE x.state = 'bounced' OR (x.state = 'failed' AND x.code = ANY ($1::text[]))
) r
WHERE c.state = 'sending';

-- name: bounced_since :many
-- Messages of campaigns that came back, told by events from position `$2` on, the newest `$3` events of the tenant at most.
SELECT DISTINCT m.campaign_id, m.id AS message_id
FROM (SELECT message_id, kind FROM message_events WHERE tenant_id = $1 AND position >= $2 ORDER BY position DESC LIMIT $3) e
CROSS JOIN LATERAL (
  SELECT x.id, x.campaign_id FROM messages x
  WHERE x.tenant_id = $1 AND x.id = e.message_id AND (x.state = 'bounced' OR (x.state = 'failed' AND x.code = ANY ($5::text[]))) LIMIT 1
) m
WHERE e.kind IN ('bounced', 'failed') AND m.campaign_id = ANY ($4::uuid[]);

-- name: left_since :many
-- Who left after a place (`$1..$4`: moment and key) and at least `$5` seconds ago, the earliest `$6`, each with the message of a
-- campaign they left by: the one they named, else the last one they had got before.
-- tenant: none, because one look serves every tenant
SELECT s.created_at, s.tenant_id, s.channel, s.address_hash, s.reason, m.campaign_id, m.id AS message_id
FROM (SELECT tenant_id, channel, address_hash, address, reason, source, created_at FROM suppressions
      WHERE reason IN ('unsubscribe', 'stop', 'complaint') AND created_at >= $1::timestamptz
        AND (created_at, tenant_id, channel, address_hash) > ($1::timestamptz, $2::uuid, $3::text, $4::bytea)
        AND created_at <= now() - $5::float8 * interval '1 second'
      ORDER BY created_at, tenant_id, channel, address_hash LIMIT $6) s
LEFT JOIN LATERAL (
  SELECT x.id, x.campaign_id FROM messages x
  WHERE x.tenant_id = s.tenant_id AND x.address = s.address AND x.campaign_id IS NOT NULL
    AND x.state IN ('sent', 'delivered', 'bounced', 'uncertain')
    AND (x.finished_at <= s.created_at OR s.source = 'message:' || x.id::text)
  ORDER BY s.source = 'message:' || x.id::text DESC, x.id DESC LIMIT 1
) m ON true
ORDER BY s.created_at, s.tenant_id, s.channel, s.address_hash;

-- name: lost_near :one
-- Of the stretches of `$4` messages one after another around message `$3` and those that follow, the one in which most were lost:
-- how many were, of how many, and up to which message every stretch was looked at; `$5` bounds how many messages are read either
-- way, those that still wait included. What was before the last brake does not count.
-- Lost by coming back, failures of the codes `$6` among them; or, with `$7`, recipients who left for one of these reasons by channel
-- `$8`. Somebody left by the message they named, else by the last one of a campaign they had got before. Who unsubscribed by a link
-- and complained afterwards did both: the entry has its source still, though the stronger reason.
WITH near AS MATERIALIZED (
  (SELECT id, address, state, finished_at
   FROM (SELECT m.id, m.state, m.code, m.address, m.finished_at FROM messages m
         WHERE m.tenant_id = $1 AND m.campaign_id = $2 AND m.id < $3 ORDER BY m.id DESC LIMIT $5) x
   WHERE state IN ('sent', 'delivered', 'bounced', 'uncertain') OR (state = 'failed' AND code = ANY ($6::text[]))
   ORDER BY id DESC LIMIT $4::bigint - 1)
  UNION ALL
  (SELECT id, address, state, finished_at
   FROM (SELECT m.id, m.state, m.code, m.address, m.finished_at FROM messages m
         WHERE m.tenant_id = $1 AND m.campaign_id = $2 AND m.id >= $3 ORDER BY m.id LIMIT $5) x
   WHERE state IN ('sent', 'delivered', 'bounced', 'uncertain') OR (state = 'failed' AND code = ANY ($6::text[]))
   ORDER BY id LIMIT 10 * $4::bigint)
), told AS (
  SELECT n.id, CASE WHEN $7::text[] IS NULL THEN n.state IN ('bounced', 'failed') AND n.finished_at > b.counted_from
                    ELSE EXISTS (
    SELECT FROM suppressions s
    WHERE s.tenant_id = $1 AND s.channel = $8 AND s.address_hash = sha256(convert_to(n.address, 'UTF8'))
      AND (s.reason = ANY ($7::text[]) OR (s.reason = 'complaint' AND s.source LIKE 'message:%' AND 'unsubscribe' = ANY ($7::text[])))
      AND s.created_at > b.counted_from
      AND CASE WHEN s.source LIKE 'message:%' THEN s.source = 'message:' || n.id::text
               ELSE n.finished_at <= s.created_at AND NOT EXISTS (
                 SELECT FROM messages later
                 WHERE later.tenant_id = $1 AND later.address = n.address AND later.id > n.id AND later.campaign_id IS NOT NULL
                   AND later.finished_at <= s.created_at AND later.state IN ('sent', 'delivered', 'bounced', 'uncertain')) END
    ) END AS is_lost
  FROM near n CROSS JOIN (
    SELECT coalesce((SELECT counted_from FROM campaign_brakes WHERE tenant_id = $1 AND campaign_id = $2), '-infinity') AS counted_from) b
), counted AS (
  SELECT count(*) FILTER (WHERE is_lost) OVER w AS lost, count(*) OVER w AS n
  FROM told WINDOW w AS (ORDER BY id ROWS BETWEEN $4::bigint - 1 PRECEDING AND CURRENT ROW)
)
SELECT c.lost, c.n,
       (SELECT id FROM near ORDER BY id DESC
        OFFSET (SELECT CASE WHEN count(*) < 10 * $4::bigint THEN 0 ELSE $4::bigint - 1 END FROM near WHERE id >= $3) LIMIT 1) AS upto
FROM counted c ORDER BY c.lost DESC, c.n DESC LIMIT 1;

-- name: brake_note :run
-- What paused a campaign; a person who resumes it begins to count anew.
INSERT INTO campaign_brakes (tenant_id, campaign_id, reason) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, campaign_id) DO UPDATE SET counted_from = now(), reason = excluded.reason;

-- name: optouts :many
-- Of the tenants and channels that the most people left in a day, the first `$1`: how many left, by a link or a word, and how many
-- bulk messages went meanwhile: a report that comes later takes one of `sent` and adds one of what became of it.
-- tenant: none, because operators see the whole installation as aggregates
WITH gone AS MATERIALIZED (
  SELECT tenant_id, channel, count(*) AS left_count FROM suppressions
  WHERE reason IN ('unsubscribe', 'stop') AND created_at >= now() - interval '1 day'
  GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT $1
)
SELECT g.tenant_id, g.channel, g.left_count, (
  SELECT greatest(coalesce(sum(r.n), 0), 0)::bigint FROM lanes l
  CROSS JOIN LATERAL (
    SELECT state, n FROM rollups x WHERE x.tenant_id = l.tenant_id AND x.lane_id = l.id AND x.hour >= now() - interval '1 day'
    UNION ALL SELECT state, n FROM rollup_deltas d WHERE d.tenant_id = l.tenant_id AND d.lane_id = l.id) r
  WHERE l.tenant_id = g.tenant_id AND l.channel = g.channel AND l.message_class = 'bulk'
    AND r.state IN ('sent', 'delivered', 'bounced', 'uncertain')) AS sent_count
FROM gone g ORDER BY g.left_count DESC, g.tenant_id, g.channel;
