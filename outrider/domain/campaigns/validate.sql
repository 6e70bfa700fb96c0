-- name: i2_finished_with_open_messages :many
-- A campaign is finished only when none of its messages is open.
-- tenant: none, because an operator validates the whole installation
SELECT c.tenant_id, c.id, format('%s messages are open', count(*)) AS detail
FROM campaigns c
JOIN lanes l ON l.tenant_id = c.tenant_id AND l.campaign_id = c.id
JOIN queue q ON q.tenant_id = l.tenant_id AND q.lane_id = l.id
WHERE c.state = 'finished'
GROUP BY c.tenant_id, c.id
LIMIT $1;

-- name: i2_launched_without_lane :many
-- A launched campaign has a lane, a moment of launch and frozen content.
-- tenant: none, because an operator validates the whole installation
SELECT tenant_id, id, format('state %s, lane %s, launched %s', state, lane_id, launched_at) AS detail
FROM campaigns
WHERE state IN ('sending', 'paused', 'finished') AND (lane_id IS NULL OR launched_at IS NULL)
LIMIT $1;

-- name: i6_lane_of_another_tenant :many
-- A campaign is queued in a lane of its own tenant, its own sender and its own channel.
-- tenant: none, because an operator validates the whole installation
SELECT c.tenant_id, c.id, format('lane %s is not this campaign''s', c.lane_id) AS detail
FROM campaigns c
WHERE c.lane_id IS NOT NULL AND NOT EXISTS (
  SELECT FROM lanes l WHERE l.tenant_id = c.tenant_id AND l.id = c.lane_id AND l.campaign_id = c.id
    AND l.channel = c.channel AND l.sender_id = c.sender_id
)
LIMIT $1;

-- name: i8_expanded_count :many
-- The number of recipients a campaign says it has queued is the number of its recipients.
-- tenant: none, because an operator validates the whole installation
SELECT c.tenant_id, c.id, format('says %s, has %s', c.expanded_count, r.n) AS detail
FROM campaigns c
CROSS JOIN LATERAL (SELECT count(*) AS n FROM campaign_recipients r WHERE r.tenant_id = c.tenant_id AND r.campaign_id = c.id) r
WHERE c.expanded_count <> r.n AND c.launched_at > now() - interval '1 year'
LIMIT $1;

-- name: i9_order_of_moments :many
-- A campaign is made, launched and finished in this order.
-- tenant: none, because an operator validates the whole installation
SELECT tenant_id, id, format('made %s, launched %s, finished %s', created_at, launched_at, finished_at) AS detail
FROM campaigns
WHERE launched_at < created_at OR finished_at < coalesce(launched_at, created_at)
LIMIT $1;

-- name: i7_recipient_of_a_later_wave :many
-- Nobody gets a campaign before their wave: no recipient belongs to a bucket beyond the wave that is queued. Whoever
-- another contact became since has that one's messages, and is passed over.
-- tenant: none, because an operator validates the whole installation
SELECT c.tenant_id, c.id, format('%s recipients belong to waves after wave %s', r.n, c.wave) AS detail
FROM campaigns c
JOIN campaign_waves w ON w.tenant_id = c.tenant_id AND w.campaign_id = c.id AND w.n = c.wave AND w.bucket_to < 10000
CROSS JOIN LATERAL (
  SELECT count(*) AS n FROM campaign_recipients x
  WHERE x.tenant_id = c.tenant_id AND x.campaign_id = c.id AND outrider_bucket(c.id, x.contact_id, 0) >= w.bucket_to
    AND NOT EXISTS (SELECT FROM contact_merges o WHERE o.tenant_id = x.tenant_id AND o.contact_id = x.contact_id)
) r
WHERE r.n > 0 AND c.launched_at > now() - interval '1 year'
LIMIT $1;

-- name: i8_waves_cover_everybody :many
-- Waves follow one another without a gap, from the first bucket to the last, and none is through before the one before.
-- tenant: none, because an operator validates the whole installation
SELECT tenant_id, campaign_id AS id, format('wave %s: buckets %s to %s', n, bucket_from, bucket_to) AS detail
FROM (
  SELECT tenant_id, campaign_id, n, bucket_from, bucket_to, expanded_at, verdict,
         lag(bucket_to) OVER own AS before_to, lag(verdict) OVER own AS before_verdict, lead(n) OVER own AS next_n
  FROM campaign_waves WINDOW own AS (PARTITION BY tenant_id, campaign_id ORDER BY n)
) w
WHERE bucket_from <> coalesce(before_to, 0) OR (next_n IS NULL AND bucket_to <> 10000)
   OR (n > 1 AND expanded_at IS NOT NULL AND before_verdict IS DISTINCT FROM 'go_on')
LIMIT $1;

-- name: i8_rest_gets_the_winner :many
-- Once a winner was chosen, everybody after the test gets it, and nothing else; merged contacts are passed over.
-- tenant: none, because an operator validates the whole installation
SELECT c.tenant_id, c.id, format('%s messages of the rest say something else than the winner', r.n) AS detail
FROM campaigns c
JOIN campaign_waves t ON t.tenant_id = c.tenant_id AND t.campaign_id = c.id AND t.winner IS NOT NULL
JOIN campaign_variants v ON v.tenant_id = t.tenant_id AND v.campaign_id = t.campaign_id AND v.n = t.winner
CROSS JOIN LATERAL (
  SELECT count(*) AS n FROM messages m
  WHERE m.tenant_id = c.tenant_id AND m.campaign_id = c.id AND m.content_id <> v.content_id
    AND outrider_bucket(c.id, m.contact_id, 0) >= t.bucket_to
    AND NOT EXISTS (SELECT FROM contact_merges o WHERE o.tenant_id = m.tenant_id AND o.contact_id = m.contact_id)
) r
WHERE r.n > 0 AND c.launched_at > now() - interval '1 year'
LIMIT $1;
