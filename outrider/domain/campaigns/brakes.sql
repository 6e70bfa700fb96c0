-- name: newest_loss :value
-- When somebody left last, for a look that costs nothing while nobody does.
-- tenant: none, because one look serves every tenant
SELECT created_at FROM suppressions WHERE reason IN ('unsubscribe', 'stop', 'complaint', 'hard_bounce') ORDER BY created_at DESC LIMIT 1;

-- name: losses :many
-- Who left in the last hour, by the last message of a campaign they had got before, where that campaign still sends. What lay
-- before its last brake counts no more.
-- tenant: none, because one look serves every tenant
SELECT s.tenant_id, m.campaign_id, m.id AS message_id, s.reason, t.settings::text AS settings
FROM (SELECT tenant_id, address, reason, created_at FROM suppressions
      WHERE reason IN ('unsubscribe', 'stop', 'complaint', 'hard_bounce') AND created_at > now() - interval '1 hour' AND address IS NOT NULL
      ORDER BY created_at DESC LIMIT 2000) s
CROSS JOIN LATERAL (
  SELECT m.id, m.campaign_id FROM messages m
  WHERE m.tenant_id = s.tenant_id AND m.address = s.address AND m.campaign_id IS NOT NULL AND m.finished_at <= s.created_at
    AND m.state IN ('sent', 'delivered', 'bounced', 'uncertain')
  ORDER BY m.id DESC LIMIT 1
) m
JOIN campaigns c ON c.tenant_id = s.tenant_id AND c.id = m.campaign_id AND c.state = 'sending'
JOIN tenants t ON t.id = s.tenant_id
LEFT JOIN campaign_brakes b ON b.tenant_id = s.tenant_id AND b.campaign_id = m.campaign_id
WHERE s.created_at > coalesce(b.counted_from, '-infinity');

-- name: windows :many
-- For each message the first of so many messages of its campaign that were sent up to it, and how many there are.
SELECT t.id AS last, w.first, w.n
FROM unnest($3::uuid[]) AS t(id)
CROSS JOIN LATERAL (
  SELECT count(*) AS n, (array_agg(x.id ORDER BY x.id))[1] AS first
  FROM (SELECT m.id FROM messages m
        WHERE m.tenant_id = $1 AND m.campaign_id = $2 AND m.id <= t.id AND m.state IN ('sent', 'delivered', 'bounced', 'uncertain')
        ORDER BY m.id DESC LIMIT $4) x
) w;

-- name: brake_note :run
-- What paused a campaign; a person who resumes it begins to count anew.
INSERT INTO campaign_brakes (tenant_id, campaign_id, reason) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, campaign_id) DO UPDATE SET counted_from = now(), reason = excluded.reason;
