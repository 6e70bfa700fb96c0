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
LIMIT $1;
