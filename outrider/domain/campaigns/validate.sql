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
