-- name: finished_rows :run
-- Finished messages of one month, of the tenants `$1` in turn; ids begin at millisecond `$2` of the month.
-- tenant: none, because a benchmark fills several at once
INSERT INTO messages (tenant_id, id, lane_id, content_id, address, purpose, variables, state, due_at, attempts, attempted_at,
                      finished_at, provider_id)
SELECT ($1::uuid[])[1 + n % cardinality($1::uuid[])],
       (lpad(to_hex($2::bigint + n / 50), 12, '0') || '7' || substr(md5(n::text || $2::text), 1, 3) || 'a'
        || substr(md5($2::text || n::text), 1, 15))::uuid,
       $5, $6, 'user' || n || '@recipient.example', 'marketing', '{"name": "Recipient", "order": "A-1"}', 'sent',
       to_timestamp($2::bigint / 1000.0), 1, to_timestamp($2::bigint / 1000.0), to_timestamp($2::bigint / 1000.0), 'ok'
FROM generate_series($3::int, $4::int) n;

-- name: open_rows :run
-- Open messages of one lane in queue state `$4`: scheduled and held ones are due in two days.
WITH given AS MATERIALIZED (
  SELECT outrider_id() AS id, n FROM generate_series(1, $5::int) n
), ledger AS (
  INSERT INTO messages (tenant_id, id, lane_id, content_id, address, purpose, variables, due_at)
  SELECT $1, id, $2, $3, 'waiting' || n || '@recipient.example', 'marketing', '{"name": "Recipient", "order": "A-1"}', now()
  FROM given
)
INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state, reason)
SELECT $1, id, $2, CASE WHEN $4::smallint IN (4, 5) THEN now() + interval '2 days' ELSE now() END, 5, $4,
       CASE $4::smallint WHEN 5 THEN 'bench: held' END
FROM given;

-- name: lane :value
-- A lane of a sender.
INSERT INTO lanes (tenant_id, channel, sender_id, campaign_id, message_class) VALUES ($1, 'email', $2, $3, $4)
ON CONFLICT (tenant_id, channel, sender_id, campaign_id, message_class) DO UPDATE SET is_open = true
RETURNING id;

-- name: pause_campaign :run
-- Pause a campaign.
INSERT INTO switches (tenant_id, scope, scope_id, reason, actor) VALUES ($1, 'campaign', $2, 'bench', 'bench');

-- name: throttle :run
-- A sender that may send next to nothing.
INSERT INTO buckets (tenant_id, scope, scope_id, rate, cap, tokens) VALUES ($1, 'sender', $2, 0.01, 1, 0);
