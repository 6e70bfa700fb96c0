-- name: gate_holds_release :run
-- What a gate holds in the lanes of a campaign and its retries (null: in all of the tenant's) is asked about again now, `$4` at a
-- time: its settings have changed. The first part of a reason is in the index of what is held: what others hold is not read.
UPDATE queue q SET due_at = now()
FROM unnest(ARRAY(
  SELECT q2.message_id FROM lanes l
  CROSS JOIN LATERAL (SELECT message_id FROM queue
                      WHERE tenant_id = $1 AND lane_id = l.id AND state = 5 AND due_at > now()
                        AND split_part(reason, ': ', 1) = split_part($3, ': ', 1) AND starts_with(reason, $3 || ': ')
                      LIMIT $4 FOR UPDATE SKIP LOCKED) q2
  WHERE l.tenant_id = $1 AND l.is_open
    AND ($2::uuid IS NULL OR l.campaign_id = $2
         OR l.campaign_id IN (SELECT c.id FROM campaigns c WHERE c.tenant_id = $1 AND c.retry_of = $2)) LIMIT $4)) d(message_id)
WHERE q.tenant_id = $1 AND q.message_id = d.message_id AND q.state = 5;

-- name: sender_holds_release :run
-- What a gate holds of a sender and class (null: of both) is asked about again now, `$5` at a time.
UPDATE queue q SET due_at = now()
FROM unnest(ARRAY(
  SELECT q2.message_id FROM lanes l
  CROSS JOIN LATERAL (SELECT message_id FROM queue
                      WHERE tenant_id = $1 AND lane_id = l.id AND state = 5 AND due_at > now()
                        AND split_part(reason, ': ', 1) = split_part($4, ': ', 1) AND starts_with(reason, $4 || ': ')
                      LIMIT $5 FOR UPDATE SKIP LOCKED) q2
  WHERE l.tenant_id = $1 AND l.is_open AND l.sender_id = $2 AND ($3::text IS NULL OR l.message_class = $3) LIMIT $5)) d(message_id)
WHERE q.tenant_id = $1 AND q.message_id = d.message_id AND q.state = 5;

-- name: senders_holds_release :run
-- What a gate holds of senders and classes of any tenant is asked about again now, of each as many as is said.
-- tenant: none, because one look serves every tenant; each row names its own
UPDATE queue q SET due_at = now()
FROM (SELECT d.tenant_id, unnest(ARRAY(
        SELECT h.message_id FROM lanes l
        CROSS JOIN LATERAL (SELECT message_id FROM queue
                            WHERE tenant_id = d.tenant_id AND lane_id = l.id AND state = 5 AND due_at > now()
                              AND split_part(reason, ': ', 1) = split_part($1, ': ', 1) AND starts_with(reason, $1 || ': ')
                            LIMIT d.most FOR UPDATE SKIP LOCKED) h
        WHERE l.tenant_id = d.tenant_id AND l.is_open AND l.sender_id = d.sender_id AND l.message_class = d.message_class
        LIMIT d.most)) AS message_id
      FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::int[]) d(tenant_id, sender_id, message_class, most)) f
WHERE q.tenant_id = f.tenant_id AND q.message_id = f.message_id AND q.state = 5;

-- name: contact_holds_release :run
-- What a gate holds to contacts for purposes is asked about again now, of each address as many as is said: found by their addresses,
-- and in the queue by its key alone: `state + 0` fits no index of held ones, which would be walked for each message.
UPDATE queue SET due_at = now()
WHERE tenant_id = $1 AND state + 0 = 5 AND message_id = ANY (ARRAY(
  SELECT h.message_id FROM unnest($3::uuid[], $4::text[]) d(contact_id, purpose)
  CROSS JOIN LATERAL (SELECT DISTINCT address FROM addresses WHERE tenant_id = $1 AND contact_id = d.contact_id OFFSET 0) a
  CROSS JOIN LATERAL (
    SELECT k.message_id
    FROM (SELECT id FROM messages WHERE tenant_id = $1 AND address = a.address AND purpose = d.purpose
          AND (contact_id IS NULL OR contact_id = d.contact_id) OFFSET 0) m
    CROSS JOIN LATERAL (SELECT message_id FROM queue
                        WHERE tenant_id = $1 AND message_id = m.id AND state + 0 = 5 AND due_at > now() AND starts_with(reason, $2 || ': ')
                        LIMIT 1 FOR UPDATE SKIP LOCKED) k
    LIMIT $5) h));

-- name: tenants_held :many
-- Tenants of whose messages a gate holds one.
-- tenant: none, because what changed for everybody concerns all of them
SELECT DISTINCT l.tenant_id FROM lanes l
CROSS JOIN LATERAL (SELECT 1 FROM queue q WHERE q.tenant_id = l.tenant_id AND q.lane_id = l.id AND q.state = 5 AND q.due_at > now()
                    AND split_part(q.reason, ': ', 1) = $1 LIMIT 1) h
WHERE l.is_open;

-- name: held_by_gate :many
-- How many messages each gate holds, by channel: a reason begins with the gate's key.
-- tenant: none, because operators see the whole installation as aggregates
SELECT l.channel, h.gate, sum(h.n)::bigint AS n
FROM (SELECT tenant_id, lane_id, split_part(reason, ': ', 1) AS gate, count(*) AS n FROM queue WHERE state = 5 AND reason IS NOT NULL GROUP BY 1, 2, 3) h
JOIN lanes l ON l.tenant_id = h.tenant_id AND l.id = h.lane_id
GROUP BY 1, 2 ORDER BY 1, 2;
