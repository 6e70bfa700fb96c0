-- name: i5_switch_of_nothing :many
-- A switch pauses something that exists, so that nobody believes that something is stopped which is not.
-- tenant: none, because an operator validates the whole installation
SELECT s.tenant_id, s.scope || ' ' || s.scope_id AS id, 'there is no such ' || s.scope AS detail
FROM switches s
WHERE (s.scope = 'sender' AND NOT EXISTS (SELECT FROM senders t WHERE t.tenant_id = s.tenant_id AND t.id::text = s.scope_id))
   OR (s.scope = 'campaign' AND NOT EXISTS (SELECT FROM campaigns t WHERE t.tenant_id = s.tenant_id AND t.id::text = s.scope_id))
   OR (s.scope = 'tenant' AND s.scope_id <> s.tenant_id::text)
LIMIT $1;

-- name: i8_tokens_within_cap :many
-- A bucket never holds more tokens than its cap, and never fewer than none.
-- tenant: none, because an operator validates the whole installation
SELECT tenant_id, scope || ' ' || scope_id AS id, format('%s of %s tokens', tokens, cap) AS detail
FROM buckets WHERE tokens > cap + 0.001 OR tokens < -0.001
UNION ALL
SELECT tenant_id, 'account ' || left(account, 12) AS id, format('%s of %s tokens', tokens, cap) AS detail
FROM account_buckets WHERE tokens > cap + 0.001 OR tokens < -0.001
LIMIT $1;

-- name: i8_warm_up_within_its_plan :many
-- A warm-up is on one of its plan's days, and counts no more on it than what is noted.
-- tenant: none, because an operator validates the whole installation
SELECT w.tenant_id, w.sender_id::text AS id,
       format('day %s of %s, %s counted and %s noted', w.step, jsonb_array_length(w.steps), w.day_sent, n.noted) AS detail
FROM warm_ups w
CROSS JOIN LATERAL (SELECT count(*) AS noted FROM warm_up_sends s
                    WHERE s.tenant_id = w.tenant_id AND s.sender_id = w.sender_id AND s.day_on = w.day_on) n
WHERE w.step > jsonb_array_length(w.steps) OR (w.day_ends_at > now() - interval '1 day' AND w.day_sent > n.noted)
LIMIT $1;
