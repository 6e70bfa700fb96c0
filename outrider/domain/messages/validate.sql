-- What must always be true of messages, asked of the database alone; each statement gives what breaks it.
-- Every row is one finding: tenant, the ids concerned, what is wrong. `$1` is the most rows. One statement is one
-- snapshot, so that a running worker is never mistaken for a fault.

-- name: unhurried :run
-- Let the statements below take their time: they read everything there is.
-- tenant: none, because it sets a limit of this transaction
SELECT set_config('statement_timeout', '0', true);

-- name: open_without_queue :many
-- I2: a message that the ledger calls open must wait in the queue, else nobody ever sends it.
-- tenant: none, because the whole installation is looked at
SELECT m.tenant_id, ARRAY[m.id::text] AS ids, 'open in the ledger, but nowhere in the queue' AS detail
FROM messages m
WHERE m.state = 'queued' AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.tenant_id = m.tenant_id AND q.message_id = m.id)
LIMIT $1;

-- name: queue_without_open :many
-- I2: what waits in the queue must be open in the ledger, else it is sent again or stops its lane.
-- tenant: none, because the whole installation is looked at
SELECT q.tenant_id, ARRAY[q.message_id::text] AS ids,
       CASE WHEN m.id IS NULL THEN 'waits in the queue without a row in the ledger'
            ELSE 'waits in the queue although the ledger says ' || m.state END AS detail
FROM queue q LEFT JOIN messages m ON m.tenant_id = q.tenant_id AND m.id = q.message_id
WHERE m.state IS DISTINCT FROM 'queued'
LIMIT $1;

-- name: held_without_reason :many
-- I2: a message may be held only with a reason.
-- tenant: none, because the whole installation is looked at
SELECT tenant_id, ARRAY[message_id::text] AS ids, 'held without a reason' AS detail
FROM queue WHERE state = 5 AND coalesce(reason, '') = ''
LIMIT $1;

-- name: unknown_states :many
-- I2: states are those of the one table in code (`$2`), in the queue its four numbers (`$3`).
-- tenant: none, because the whole installation is looked at
(SELECT tenant_id, ARRAY[id::text] AS ids, 'the ledger has the unknown state ' || state AS detail
 FROM messages WHERE state <> ALL ($2::text[]) LIMIT $1)
UNION ALL
(SELECT tenant_id, ARRAY[message_id::text], 'the queue has the unknown state ' || state
 FROM queue WHERE state <> ALL ($3::smallint[]) LIMIT $1);

-- name: uncertain_unlisted :many
-- I2: an uncertain message must be on the list that people decide about, and nothing else may.
-- tenant: none, because the whole installation is looked at
(SELECT m.tenant_id, ARRAY[m.id::text] AS ids, 'uncertain, but not on the list of uncertain messages' AS detail
 FROM messages m
 WHERE m.state = 'uncertain'
   AND NOT EXISTS (SELECT 1 FROM uncertain_messages u WHERE u.tenant_id = m.tenant_id AND u.message_id = m.id) LIMIT $1)
UNION ALL
(SELECT u.tenant_id, ARRAY[u.message_id::text], 'on the list of uncertain messages, but the ledger says ' || coalesce(m.state, 'nothing')
 FROM uncertain_messages u LEFT JOIN messages m ON m.tenant_id = u.tenant_id AND m.id = u.message_id
 WHERE m.state IS DISTINCT FROM 'uncertain' LIMIT $1);

-- name: sent_to_suppressed :many
-- I5: nothing whose first attempt began more than two seconds after the address was suppressed may have been sent.
-- tenant: none, because the whole installation is looked at
SELECT m.tenant_id, ARRAY[m.id::text] AS ids, 'sent although the address was on the do-not-contact list' AS detail
FROM messages m
JOIN lanes l ON l.tenant_id = m.tenant_id AND l.id = m.lane_id
JOIN suppressions s ON s.tenant_id IN (m.tenant_id, '00000000-0000-0000-0000-000000000000') AND s.channel = l.channel
 AND s.address_hash = sha256(convert_to(m.address, 'UTF8'))
WHERE m.state IN ('sent', 'delivered', 'bounced') AND m.attempted_at > s.created_at + interval '2 seconds'
  AND (s.scope = 'all' OR l.message_class = 'bulk')
LIMIT $1;

-- name: campaign_twice :many
-- I7: a campaign reaches a contact once and an address once.
-- tenant: none, because the whole installation is looked at
(SELECT tenant_id, array_agg(id::text ORDER BY id) AS ids, 'one contact, one campaign, several messages' AS detail
 FROM messages WHERE campaign_id IS NOT NULL GROUP BY tenant_id, campaign_id, contact_id HAVING count(*) > 1 LIMIT $1)
UNION ALL
(SELECT tenant_id, array_agg(id::text ORDER BY id), 'one address, one campaign, several messages'
 FROM messages WHERE campaign_id IS NOT NULL GROUP BY tenant_id, campaign_id, address HAVING count(*) > 1 LIMIT $1);

-- name: recipient_without_message :many
-- I7: who is on a campaign's list of recipients has its message, unless retention has dropped that month.
-- tenant: none, because the whole installation is looked at
SELECT r.tenant_id, ARRAY[r.message_id::text] AS ids, 'a recipient of a campaign without the message' AS detail
FROM campaign_recipients r
WHERE r.message_id >= (
    SELECT (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([0-9a-f-]+)''\)'))[1]::uuid AS low
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'public.messages'::regclass AND pg_get_expr(c.relpartbound, c.oid) LIKE 'FOR VALUES FROM%'
    ORDER BY low LIMIT 1)
  AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.tenant_id = r.tenant_id AND m.id = r.message_id)
LIMIT $1;

-- name: message_without_recipient :many
-- I7: every message of a campaign belongs to one of its recipients, until retention drops those: seven days at least.
-- tenant: none, because the whole installation is looked at
SELECT m.tenant_id, ARRAY[m.id::text] AS ids, 'a message of a campaign that is no recipient''s' AS detail
FROM messages m
JOIN campaigns c ON c.tenant_id = m.tenant_id AND c.id = m.campaign_id AND (c.finished_at IS NULL OR c.finished_at > now() - interval '7 days')
WHERE NOT EXISTS (
  SELECT 1 FROM campaign_recipients r
  WHERE r.tenant_id = m.tenant_id AND r.campaign_id = m.campaign_id AND r.contact_id = m.contact_id AND r.message_id = m.id)
LIMIT $1;

-- name: counts_differ :many
-- I8: rollups and what is not folded yet equal a recount, lane by lane; lanes older than the oldest month cannot be recounted.
-- tenant: none, because the whole installation is looked at
WITH ledger AS MATERIALIZED (
  SELECT tenant_id, lane_id, state, coalesce(code, '') AS code, count(*) AS n FROM messages GROUP BY 1, 2, 3, 4
), recounted AS (
  SELECT tenant_id, lane_id, state, code, n FROM ledger WHERE state <> 'queued'
  UNION ALL SELECT tenant_id, lane_id, 'accepted', '', sum(n)::bigint FROM ledger GROUP BY 1, 2
), counted AS (
  SELECT tenant_id, lane_id, state, code, sum(n)::bigint AS n FROM (
    SELECT tenant_id, lane_id, state, code, n FROM rollups UNION ALL SELECT tenant_id, lane_id, state, code, n FROM rollup_deltas
  ) t GROUP BY 1, 2, 3, 4
), oldest AS (
  SELECT (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([0-9a-f-]+)''\)'))[1] AS low
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  WHERE i.inhparent = 'public.messages'::regclass AND pg_get_expr(c.relpartbound, c.oid) LIKE 'FOR VALUES FROM%'
  ORDER BY low LIMIT 1
)
SELECT b.tenant_id, ARRAY['lane ' || b.lane_id] AS ids,
       format('%s%s: the rollups say %s, the ledger has %s', b.state, CASE WHEN b.code <> '' THEN ' (' || b.code || ')' ELSE '' END,
              coalesce(b.counted, 0), coalesce(b.recounted, 0)) AS detail
FROM (SELECT tenant_id, lane_id, state, code, c.n AS counted, r.n AS recounted
      FROM counted c FULL JOIN recounted r USING (tenant_id, lane_id, state, code)) b
LEFT JOIN lanes l ON l.tenant_id = b.tenant_id AND l.id = b.lane_id
WHERE coalesce(b.counted, 0) <> coalesce(b.recounted, 0)
  AND (l.id IS NULL OR l.created_at >= to_timestamp(('x' || substr(replace((SELECT low FROM oldest), '-', ''), 1, 12))::bit(48)::bigint / 1000.0))
LIMIT $1;

-- name: events_disagree :many
-- I9: the last event that ended a message (`$2`) names the state it is in; an open one has none, or was sent again since.
-- tenant: none, because the whole installation is looked at
SELECT m.tenant_id, ARRAY[m.id::text] AS ids,
       format('the ledger says %s, its events %s', m.state, coalesce(e.kind, 'nothing of an end')) AS detail
FROM messages m
LEFT JOIN LATERAL (
  SELECT kind FROM message_events e
  WHERE e.tenant_id = m.tenant_id AND e.message_id = m.id AND (e.kind = ANY ($2::text[]) OR e.kind = 'resent')
  ORDER BY at DESC LIMIT 1
) e ON true
WHERE CASE WHEN m.state = 'queued' THEN coalesce(e.kind, 'resent') <> 'resent' ELSE e.kind IS DISTINCT FROM m.state END
LIMIT $1;

-- name: events_too_early :many
-- I9: nothing happens to a message before it was accepted; its id holds that instant.
-- tenant: none, because the whole installation is looked at
SELECT tenant_id, ARRAY[message_id::text] AS ids, 'the event ' || kind || ' is older than the message' AS detail
FROM message_events
WHERE at < to_timestamp(('x' || substr(replace(message_id::text, '-', ''), 1, 12))::bit(48)::bigint / 1000.0) - interval '1 second'
LIMIT $1;

-- name: leases_overdue :many
-- I11: a lease that has ended is swept soon; `$2` is how many seconds late is too late.
-- tenant: none, because the whole installation is looked at
SELECT tenant_id, ARRAY[message_id::text] AS ids, 'its lease has ended and nobody sweeps it: is a worker running?' AS detail
FROM queue WHERE state = 1 AND (lease_until IS NULL OR lease_until < clock_timestamp() - $2::float8 * interval '1 second')
LIMIT $1;

-- name: outside_partitions :many
-- Messages and events of a month that has no partition of its own: partitions were not made ahead.
-- tenant: none, because the whole installation is looked at
(SELECT tenant_id, ARRAY[id::text] AS ids, 'a message in the default partition' AS detail
 FROM messages WHERE tableoid = 'public.messages_default'::regclass LIMIT $1)
UNION ALL
(SELECT DISTINCT tenant_id, ARRAY[message_id::text], 'an event in the default partition'
 FROM message_events WHERE tableoid = 'public.message_events_default'::regclass LIMIT $1);

-- name: open_in_closed_lane :many
-- A message that waits in a lane that no worker looks at is never sent.
-- tenant: none, because the whole installation is looked at
SELECT q.tenant_id, ARRAY[q.message_id::text] AS ids, 'waits in a lane that is closed or gone' AS detail
FROM queue q LEFT JOIN lanes l ON l.tenant_id = q.tenant_id AND l.id = q.lane_id
WHERE l.is_open IS NOT TRUE
LIMIT $1;
