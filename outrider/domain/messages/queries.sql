-- Statements of the message ledger, its queue, lanes, events, rollups and uncertain messages.
-- Queue states are literals: 0 ready, 1 leased, 4 scheduled, 5 held (states.py).

-- name: lane_find :value
-- The id of a lane, when it exists and is open.
SELECT id FROM lanes
WHERE tenant_id = $1 AND channel = $2 AND sender_id = $3 AND campaign_id IS NOT DISTINCT FROM $4 AND message_class = $5 AND is_open;

-- name: lane_make :value
-- Make a lane, or open the existing one again.
INSERT INTO lanes (tenant_id, channel, sender_id, campaign_id, message_class) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, channel, sender_id, campaign_id, message_class) DO UPDATE SET is_open = true
RETURNING id;

-- name: lane_directory :many
-- Open lanes with at least one message that is ready now, for the round robin over tenants: from lane to lane along the
-- index of what is ready, so that lanes which have nothing cost nothing, however many there are.
-- tenant: none, because it is the directory from which workers choose whose turn it is
WITH RECURSIVE ready AS (
  (SELECT tenant_id, lane_id FROM queue WHERE state = 0 ORDER BY tenant_id, lane_id LIMIT 1)
  UNION ALL
  SELECT n.tenant_id, n.lane_id
  FROM ready r
  CROSS JOIN LATERAL (SELECT q.tenant_id, q.lane_id FROM queue q
                      WHERE q.state = 0 AND (q.tenant_id, q.lane_id) > (r.tenant_id, r.lane_id)
                      ORDER BY q.tenant_id, q.lane_id LIMIT 1) n
)
SELECT l.tenant_id, l.id, l.channel, l.sender_id, l.campaign_id, l.message_class
FROM ready r
CROSS JOIN LATERAL (SELECT * FROM lanes WHERE tenant_id = r.tenant_id AND id = r.lane_id AND is_open LIMIT 1) l;

-- name: lanes_with_work :many
-- The same, asked of one open lane after the other; those of `$1` are known to have something and are not looked at. For while
-- somebody holds a snapshot: the index then keeps all that has been sent since, and a walk along it goes over that.
-- tenant: none, because it is the directory from which workers choose whose turn it is
SELECT l.tenant_id, l.id, l.channel, l.sender_id, l.campaign_id, l.message_class
FROM lanes l LEFT JOIN unnest($1::int[]) known(id) ON known.id = l.id
CROSS JOIN LATERAL (
  SELECT 1 WHERE known.id IS NOT NULL
  UNION ALL
  (SELECT 1 FROM queue q WHERE known.id IS NULL AND q.tenant_id = l.tenant_id AND q.lane_id = l.id AND q.state = 0
   ORDER BY q.priority, q.due_at, q.message_id LIMIT 1) -- by its index, whatever the statistics say
) has_work
WHERE l.is_open;

-- name: lane_lock :value
-- First lock of every claim: a lane's verdict and its claims are one, and a pause can wait for those under way. Gives the instant.
SELECT now() FROM lanes WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- name: claim_pick :many
-- Pick the next ready messages of a lane in order; `$4..$6` is the worker's mark (least key worth looking at). With how many seconds
-- it took to come to each.
SELECT message_id, priority, due_at, attempt, crashes, attempted_at,
       date_part('epoch', clock_timestamp() - statement_timestamp()) AS looked_s
FROM queue
WHERE tenant_id = $1 AND lane_id = $2 AND state = 0 AND (priority, due_at, message_id) >= ($4::smallint, $5::timestamptz, $6::uuid)
ORDER BY priority, due_at, message_id
LIMIT $3 FOR UPDATE SKIP LOCKED;

-- name: claim_read :many
-- Read the ledger rows of a pick; `$3`, `$4` are its least and greatest id, so that only their partitions are opened.
SELECT m.id, m.contact_id, m.content_id, m.address, m.purpose, m.variables::text AS variables, m.expires_at
FROM unnest($2::uuid[]) t(id)
JOIN messages m ON m.tenant_id = $1 AND m.id = t.id AND m.id >= $3 AND m.id <= $4;

-- name: claim_take :run
-- Lease the messages to this worker. The attempt counts from here; its first instant freezes the Date header.
UPDATE queue q
SET state = 1, lease_until = clock_timestamp() + $4 * interval '1 second', token = $3, attempt = attempt + 1,
    attempted_at = coalesce(attempted_at, now()), reason = NULL
FROM unnest($2::uuid[]) t(id)
WHERE q.tenant_id = $1 AND q.message_id = t.id;

-- name: claim_hold :run
-- A gate said not now: out of the ready part until its time, with the reason and an event.
WITH held AS (
  UPDATE queue q SET state = 5, due_at = d.until, reason = d.reason
  FROM unnest($2::uuid[], $3::timestamptz[], $4::text[]) d(id, until, reason)
  WHERE q.tenant_id = $1 AND q.message_id = d.id AND q.state = 0
  RETURNING q.message_id, d.until, d.reason
)
INSERT INTO message_events (tenant_id, message_id, kind, data)
SELECT $1, message_id, 'held', jsonb_build_object('reason', reason, 'until', until) FROM held;

-- name: claim_close :run
-- A gate said never: the message ends at once, unleased, with the gate as its code.
WITH gone AS (
  DELETE FROM queue q USING unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) d(id, state, code, detail)
  WHERE q.tenant_id = $1 AND q.message_id = d.id AND q.state = 0
  RETURNING q.message_id, q.lane_id, q.attempt, d.state, d.code, d.detail
), ledger AS (
  UPDATE messages m SET state = g.state, code = g.code, detail = g.detail, attempts = g.attempt, finished_at = now()
  FROM gone g WHERE m.tenant_id = $1 AND m.id = g.message_id AND m.id >= $6 AND m.id <= $7
), deltas AS (
  INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, code, n)
  SELECT $1, lane_id, date_trunc('hour', now()), state, code, count(*) FROM gone GROUP BY 2, 4, 5
)
INSERT INTO message_events (tenant_id, message_id, kind, data)
SELECT $1, message_id, state, jsonb_build_object('gate', code, 'reason', detail) FROM gone;

-- name: content_weights :many
-- Bytes of contents with their files, so that a batch of heavy ones is rendered a few at a time.
SELECT c.id, (coalesce(octet_length(c.html), 0) + coalesce(octet_length(c.text), 0)
       + (SELECT coalesce(sum(octet_length(a.content)), 0) FROM content_attachments a WHERE a.tenant_id = $1 AND a.content_id = c.id))::bigint AS bytes
FROM contents c WHERE c.tenant_id = $1 AND c.id = ANY($2::uuid[]);

-- name: token_block :value
-- A block of 1,000 lease tokens for one worker.
-- tenant: none, because tokens are unique over the installation
SELECT nextval('lease_tokens');

-- name: finish :many
-- Record outcomes: the DELETE is the fence (token), then ledger, events, rollup and uncertain list in one statement.
-- Gives the ids that were still ours.
WITH gone AS (
  DELETE FROM queue q USING unnest($2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[]) d(id, token, state, provider_id, code, detail)
  WHERE q.tenant_id = $1 AND q.message_id = d.id AND q.token = d.token
  RETURNING d.id, q.lane_id, q.attempt, q.attempted_at, d.state, d.provider_id, d.code, d.detail
), ledger AS (
  UPDATE messages m SET state = g.state, provider_id = g.provider_id, code = g.code, detail = g.detail,
         attempts = g.attempt, attempted_at = g.attempted_at, finished_at = now()
  FROM gone g WHERE m.tenant_id = $1 AND m.id = g.id AND m.id >= $8 AND m.id <= $9
), deltas AS (
  INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, code, n)
  SELECT $1, lane_id, date_trunc('hour', now()), state, coalesce(code, ''), count(*) FROM gone GROUP BY 2, 4, 5
), doubtful AS (
  INSERT INTO uncertain_messages (tenant_id, message_id, lane_id, cause, detail)
  SELECT $1, id, lane_id, coalesce(code, ''), coalesce(detail, '') FROM gone WHERE state = 'uncertain'
), events AS (
  INSERT INTO message_events (tenant_id, message_id, kind, data)
  SELECT $1, id, state, CASE WHEN code IS NOT NULL THEN jsonb_build_object('cause', code, 'detail', detail, 'attempt', attempt) END FROM gone
)
SELECT id FROM gone;

-- name: finish_sent :many
-- Record acceptances, the outcome of nearly all: as `finish`, without what acceptances never need, and for all tenants of
-- a flush at once (an element of `$1` for each message): one with few messages costs no statement of its own.
WITH gone AS (
  DELETE FROM queue q USING unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[]) d(tenant_id, id, token, provider_id)
  WHERE q.tenant_id = d.tenant_id AND q.message_id = d.id AND q.token = d.token
  RETURNING d.tenant_id, d.id, q.lane_id, q.attempt, q.attempted_at, d.provider_id
), ledger AS (
  UPDATE messages m SET state = 'sent', provider_id = g.provider_id, attempts = g.attempt, attempted_at = g.attempted_at, finished_at = now()
  FROM gone g WHERE m.tenant_id = g.tenant_id AND m.id = g.id AND m.id >= $5 AND m.id <= $6
), deltas AS (
  INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, n)
  SELECT tenant_id, lane_id, date_trunc('hour', now()), 'sent', count(*) FROM gone GROUP BY 1, 2
), events AS (
  INSERT INTO message_events (tenant_id, message_id, kind) SELECT tenant_id, id, 'sent' FROM gone
)
SELECT id FROM gone;

-- name: defer :many
-- An attempt failed and may be repeated: scheduled for its next attempt, fenced by the token. After a bug of a plugin
-- each goes alone (crashes), because nobody knows which message of the batch it was.
WITH later AS (
  UPDATE queue q SET state = 4, due_at = now() + d.delay_s * interval '1 second', token = NULL, lease_until = NULL, reason = d.code,
                     crashes = CASE WHEN d.code = 'plugin_failed' THEN greatest(crashes, 1) ELSE crashes END
  FROM unnest($2::uuid[], $3::bigint[], $4::float8[], $5::text[], $6::text[]) d(id, token, delay_s, code, detail)
  WHERE q.tenant_id = $1 AND q.message_id = d.id AND q.token = d.token
  RETURNING q.message_id, q.due_at, q.attempt, d.code, d.detail
), events AS (
  INSERT INTO message_events (tenant_id, message_id, kind, data)
  SELECT $1, message_id, 'deferred', jsonb_build_object('cause', code, 'detail', detail, 'attempt', attempt, 'next_at', due_at) FROM later
)
SELECT message_id AS id FROM later;

-- name: hand_back :many
-- Nothing left the house: the message is ready again as if it had not been claimed, fenced by the token.
UPDATE queue q SET state = 0, token = NULL, lease_until = NULL, attempt = greatest(attempt - 1, 0), crashes = crashes + d.crash,
                   attempted_at = CASE WHEN attempt <= 1 THEN NULL ELSE attempted_at END
FROM unnest($2::uuid[], $3::bigint[], $4::smallint[]) d(id, token, crash)
WHERE q.tenant_id = $1 AND q.message_id = d.id AND q.token = d.token
RETURNING q.message_id AS id;

-- name: hold_back :many
-- Nothing left the house, and a rate lets nothing go for a while: held as if it had not been claimed, fenced by the token.
WITH held AS (
  UPDATE queue q SET state = 5, due_at = now() + d.delay_s * interval '1 second', reason = d.reason, token = NULL, lease_until = NULL,
                     attempt = greatest(attempt - 1, 0), attempted_at = CASE WHEN attempt <= 1 THEN NULL ELSE attempted_at END
  FROM unnest($2::uuid[], $3::bigint[], $4::float8[], $5::text[]) d(id, token, delay_s, reason)
  WHERE q.tenant_id = $1 AND q.message_id = d.id AND q.token = d.token
  RETURNING q.message_id, q.due_at, q.reason
), events AS (
  INSERT INTO message_events (tenant_id, message_id, kind, data)
  SELECT $1, message_id, 'held', jsonb_build_object('reason', reason, 'until', due_at) FROM held
)
SELECT message_id AS id FROM held;

-- name: wait_again :many
-- The account was refused, whatever the message: ready again as if it had not been claimed, however often, with the
-- reason on its timeline; fenced by the token.
WITH back AS (
  UPDATE queue q SET state = 0, token = NULL, lease_until = NULL, attempt = greatest(attempt - 1, 0),
                     attempted_at = CASE WHEN attempt <= 1 THEN NULL ELSE attempted_at END
  FROM unnest($2::uuid[], $3::bigint[], $4::text[], $5::text[]) d(id, token, code, detail)
  WHERE q.tenant_id = $1 AND q.message_id = d.id AND q.token = d.token
  RETURNING q.message_id, d.code, d.detail
), events AS (
  INSERT INTO message_events (tenant_id, message_id, kind, data)
  SELECT $1, message_id, 'held', jsonb_build_object('reason', code, 'detail', detail) FROM back
)
SELECT message_id AS id FROM back;

-- name: try_again :many
-- An attempt that may have been made is repeated with the same bytes (at_least_once): ready again, attempt kept.
WITH again AS (
  UPDATE queue q SET state = 0, token = NULL, lease_until = NULL, crashes = crashes + 1
  FROM unnest($2::uuid[], $3::bigint[]) d(id, token)
  WHERE q.tenant_id = $1 AND q.message_id = d.id AND q.token = d.token
  RETURNING q.message_id, q.attempt
), events AS (
  INSERT INTO message_events (tenant_id, message_id, kind, data)
  SELECT $1, message_id, 'rescued', jsonb_build_object('attempt', attempt) FROM again
)
SELECT message_id AS id FROM again;

-- name: renew :many
-- Extend the leases of messages that are still being written; only while they are ours. A row that somebody holds is passed
-- over: our own transaction that records it may stand still with our event loop, and the others must not wait for it.
WITH free AS MATERIALIZED (
  SELECT q.message_id FROM queue q JOIN unnest($2::uuid[], $4::bigint[]) d(id, token)
    ON q.message_id = d.id AND q.token = d.token
  WHERE q.tenant_id = $1 AND q.state = 1
  FOR UPDATE OF q SKIP LOCKED
)
UPDATE queue q SET lease_until = clock_timestamp() + $3 * interval '1 second'
FROM free WHERE q.tenant_id = $1 AND q.message_id = free.message_id
RETURNING q.message_id AS id;

-- name: leased_by :many
-- What is still leased under the given tokens, for recovery from a journal.
SELECT q.message_id, q.token, q.lane_id, q.attempt, q.crashes, l.message_class, l.sender_id
FROM queue q JOIN lanes l ON l.tenant_id = q.tenant_id AND l.id = q.lane_id
WHERE q.tenant_id = $1 AND q.state = 1 AND q.token = ANY($2::bigint[])
FOR UPDATE OF q;

-- name: tenants_with_expired_leases :many
-- Tenants in which a lease has ended, for the sweep; none directly after the database started (its workers may renew). Only
-- what ended before is walked over, not what was leased and sent lately: while somebody holds a snapshot that stays in the index.
-- tenant: none, because it is the directory of the sweep
WITH RECURSIVE leased AS (
  (SELECT tenant_id FROM queue WHERE state = 1 AND lease_until < now() ORDER BY tenant_id, lease_until LIMIT 1)
  UNION ALL
  SELECT n.tenant_id
  FROM leased l
  CROSS JOIN LATERAL (SELECT q.tenant_id FROM queue q WHERE q.state = 1 AND q.lease_until < now() AND q.tenant_id > l.tenant_id
                      ORDER BY q.tenant_id, q.lease_until LIMIT 1) n
)
SELECT tenant_id AS id FROM leased WHERE clock_timestamp() - pg_postmaster_start_time() > $1 * interval '1 second';

-- name: expired_leases :many
-- Messages of one tenant whose lease has ended; only the lease decides, so each counts as begun.
SELECT q.message_id, q.token, q.lane_id, q.attempt, q.crashes, l.message_class, l.sender_id
FROM queue q JOIN lanes l ON l.tenant_id = q.tenant_id AND l.id = q.lane_id
WHERE q.tenant_id = $1 AND q.state = 1 AND q.lease_until < clock_timestamp()
ORDER BY q.lease_until LIMIT $2
FOR UPDATE OF q SKIP LOCKED;

-- name: sender_guarantees :many
-- What the senders promise when an answer was lost.
SELECT id, transactional_guarantee, bulk_guarantee FROM senders WHERE tenant_id = $1 AND id = ANY($2::uuid[]);

-- name: tenants_with_due :many
-- Tenants in which something scheduled or held has become due: from tenant to tenant along the index of what waits.
-- tenant: none, because it is the directory of the promotion loop
WITH RECURSIVE waiting AS (
  (SELECT tenant_id, due_at FROM queue WHERE state IN (4, 5) ORDER BY tenant_id, due_at LIMIT 1)
  UNION ALL
  SELECT n.tenant_id, n.due_at
  FROM waiting w
  CROSS JOIN LATERAL (SELECT q.tenant_id, q.due_at FROM queue q WHERE q.state IN (4, 5) AND q.tenant_id > w.tenant_id
                      ORDER BY q.tenant_id, q.due_at LIMIT 1) n
)
SELECT tenant_id AS id FROM waiting WHERE due_at <= now();

-- name: promote :run
-- What has become due is ready, `$2` at a time. By an array: beside a sub-select with a LIMIT it does not know, the
-- planner reads the whole queue.
UPDATE queue q SET state = 0, reason = NULL
FROM unnest(ARRAY(SELECT message_id FROM queue WHERE tenant_id = $1 AND state IN (4, 5) AND due_at <= now()
                  ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)) d(message_id)
WHERE q.tenant_id = $1 AND q.message_id = d.message_id;

-- name: admit :many
-- Accept messages of one lane: ledger and queue in one statement; gives ids in the order of the arrays. Single calls
-- bring a key and the hash of their request each, and its answer is kept under it; batches bring none.
WITH given AS MATERIALIZED (
  SELECT t.ord, outrider_id() AS id, t.address, t.variables::jsonb AS variables, t.content_id, t.contact_id, t.due_at, t.expires_at, t.key, t.request_hash
  FROM unnest($3::text[], $4::text[], $5::uuid[], $6::uuid[], $7::timestamptz[], $8::timestamptz[], $11::text[], $12::bytea[])
       WITH ORDINALITY AS t(address, variables, content_id, contact_id, due_at, expires_at, key, request_hash, ord)
), ledger AS (
  INSERT INTO messages (tenant_id, id, lane_id, contact_id, content_id, address, purpose, variables, priority, due_at, expires_at)
  SELECT $1, id, $2, contact_id, content_id, address, $9, variables, $10, coalesce(due_at, now()), expires_at FROM given
), waiting AS (
  INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state)
  SELECT $1, id, $2, coalesce(due_at, now()), $10, CASE WHEN due_at > now() THEN 4 ELSE 0 END FROM given
), deltas AS (
  INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, n) SELECT $1, $2, date_trunc('hour', now()), 'accepted', count(*) FROM given
), answers AS (
  INSERT INTO idempotency_keys (tenant_id, key, request_hash, status, body)
  SELECT $1, key, request_hash, 202, jsonb_build_object('id', id) FROM given WHERE key IS NOT NULL
)
SELECT id FROM given ORDER BY ord;

-- name: index_plans :run
-- Walk by index whatever the statistics say: a list just imported, or a partition just begun, has none yet.
-- tenant: none, because it only advises the planner for this transaction
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true);

-- name: fan_out :one
-- Queue the next members of a campaign's list or audience: recipient, message and queue row in one statement, after `$6` by contact
-- id. Whoever became a part of another contact since is that one, and, where a list is walked, only if that one is on it. Variables are frozen
-- here. Gives the last contact looked at, how many members were looked at, queued, without address, late, and who of them joined the list
-- after the launch.
-- `$12`, `$13` contents and the first bucket of each (null: `$8` for all); `$14`, `$15` the buckets of this wave (null: everybody);
-- `$16` the moment of each zone in seconds (null: now), `$17` of everybody else, `$18` the attribute that names a zone, `$19` skip the late;
-- `$20` leave out who joined the list after the launch.
WITH page AS MATERIALIZED (
  SELECT lm.contact_id AS member_id, who.contact_id, lm.is_in, lm.has_joined, a.address, outrider_id() AS message_id,
         c.attributes || jsonb_build_object('name', c.name, CASE $5 WHEN 'email' THEN 'email' WHEN 'sms' THEN 'phone' ELSE 'address' END, a.address)
           || CASE WHEN c.external_id IS NULL THEN '{}'::jsonb ELSE jsonb_build_object('external_id', c.external_id) END AS variables,
         CASE WHEN $13::int[] IS NULL THEN $8::uuid ELSE ($12::uuid[])[width_bucket(outrider_bucket($2, lm.contact_id, 3), $13)] END AS content_id,
         CASE WHEN $16::jsonb IS NULL THEN now()
              ELSE coalesce(to_timestamp(($16 ->> lower(coalesce(c.timezone, c.attributes ->> $18::text)))::float8), $17::timestamptz) END AS hour_at
  FROM (SELECT m.contact_id, ($14::int IS NULL OR outrider_bucket($2, m.contact_id, 0) BETWEEN $14 AND $15::int - 1)
                 AND ($20::boolean IS NOT TRUE OR m.added_at IS NULL OR m.added_at <= (SELECT k.launched_at FROM campaigns k WHERE k.tenant_id = $1 AND k.id = $2)) AS is_in,
               m.added_at > (SELECT k.launched_at FROM campaigns k WHERE k.tenant_id = $1 AND k.id = $2) AS has_joined
        FROM ((SELECT contact_id, added_at FROM list_members WHERE tenant_id = $1 AND list_id = $3 AND contact_id > $6 ORDER BY contact_id LIMIT $7)
              UNION ALL -- without a list: the audience that was found at the launch; with one: who left it by becoming another
              (SELECT contact_id, NULL::timestamptz FROM campaign_audience o WHERE tenant_id = $1 AND campaign_id = $2 AND contact_id > $6
                 AND ($3::uuid IS NULL OR EXISTS (SELECT FROM contact_merges w JOIN list_members x ON x.tenant_id = $1 AND x.list_id = $3 AND x.contact_id = w.contact_id
                                                  WHERE w.tenant_id = $1 AND w.merged_id = o.contact_id))
               ORDER BY contact_id LIMIT $7)
              ORDER BY contact_id LIMIT $7) m OFFSET 0) lm
  CROSS JOIN LATERAL (SELECT coalesce((SELECT w.contact_id FROM contact_merges w WHERE w.tenant_id = $1 AND w.merged_id = lm.contact_id), lm.contact_id)
                        AS contact_id OFFSET 0) who
  -- OFFSET 0: one look-up by key for each member of the page; a hash join would read every contact for every page
  -- LEFT: a page of people who were erased since must not look like the end
  LEFT JOIN LATERAL (SELECT name, attributes, external_id, timezone FROM contacts x
                     WHERE x.tenant_id = $1 AND x.id = who.contact_id AND lm.is_in OFFSET 0) c ON true
  LEFT JOIN LATERAL (SELECT address FROM addresses x WHERE x.tenant_id = $1 AND x.contact_id = who.contact_id AND x.channel = $5 AND lm.is_in
                     ORDER BY created_at, address LIMIT 1) a ON true
), recipients AS (
  INSERT INTO campaign_recipients (tenant_id, campaign_id, contact_id, address, message_id)
  SELECT $1, $2, contact_id, address, message_id FROM page WHERE address IS NOT NULL AND (hour_at >= now() OR $19::boolean IS NOT TRUE)
  ON CONFLICT DO NOTHING
  RETURNING message_id
), ledger AS (
  INSERT INTO messages (tenant_id, id, lane_id, campaign_id, contact_id, content_id, address, purpose, variables, priority, due_at, expires_at)
  SELECT $1, message_id, $4, $2, contact_id, content_id, address, $9, variables, $10, greatest(now(), hour_at), $11
  FROM page WHERE (message_id IN (SELECT message_id FROM recipients)) IS TRUE -- IS TRUE keeps it a hashed look-up
  RETURNING id, due_at
), waiting AS (
  INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state)
  SELECT $1, id, $4, due_at, $10, CASE WHEN due_at > now() THEN 4 ELSE 0 END FROM ledger
), deltas AS (
  INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, n)
  SELECT $1, $4, date_trunc('hour', now()), 'accepted', count(*) FROM recipients HAVING count(*) > 0
)
SELECT (SELECT member_id FROM page ORDER BY member_id DESC LIMIT 1) AS last, (SELECT count(*) FROM page) AS looked_at,
       (SELECT count(*) FROM recipients) AS queued, (SELECT count(*) FROM page WHERE is_in AND address IS NULL) AS without_address,
       (SELECT count(*) FROM page WHERE address IS NOT NULL AND hour_at < now() AND $19 IS TRUE) AS late,
       (SELECT count(*) FROM page WHERE has_joined AND is_in) AS joined;

-- name: lanes_of_campaign :many
-- The lanes a campaign was ever queued by.
SELECT id FROM lanes WHERE tenant_id = $1 AND campaign_id = $2;

-- name: cancel_pick :many
-- Lock what waits in a lane, ready ones and later ones each `$3` at a time; what is being sent is left to end by itself.
-- In the order of an index, so that a lane with little costs little beside one with millions.
SELECT message_id FROM (SELECT message_id FROM queue WHERE tenant_id = $1 AND lane_id = $2 AND state = 0
                        ORDER BY priority, due_at, message_id LIMIT $3 FOR UPDATE SKIP LOCKED) ready
UNION ALL
SELECT message_id FROM (SELECT message_id FROM queue WHERE tenant_id = $1 AND lane_id = $2 AND state IN (4, 5)
                        ORDER BY state LIMIT $3 FOR UPDATE SKIP LOCKED) later;

-- name: cancel_close :run
-- End picked messages as cancelled; `$3`, `$4` are their least and greatest id, so that only their partitions are opened.
WITH gone AS (
  DELETE FROM queue q USING unnest($2::uuid[]) d(id) WHERE q.tenant_id = $1 AND q.message_id = d.id
  RETURNING q.message_id, q.lane_id, q.attempt
), ledger AS (
  UPDATE messages m SET state = 'cancelled', attempts = g.attempt, finished_at = now() FROM gone g
  WHERE m.tenant_id = $1 AND m.id = g.message_id AND m.id >= $3 AND m.id <= $4
), deltas AS (
  INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, n)
  SELECT $1, lane_id, date_trunc('hour', now()), 'cancelled', count(*) FROM gone GROUP BY 2
)
INSERT INTO message_events (tenant_id, message_id, kind) SELECT $1, message_id, 'cancelled' FROM gone;

-- name: event_append :run
-- One event of one message.
INSERT INTO message_events (tenant_id, message_id, kind, data) VALUES ($1, $2, $3, $4::text::jsonb);

-- name: events_append :run
-- Events of several messages at their moments.
INSERT INTO message_events (tenant_id, message_id, at, kind, data)
SELECT $1, message_id, at, kind, data::jsonb FROM unnest($2::uuid[], $3::timestamptz[], $4::text[], $5::text[]) t(message_id, at, kind, data);

-- name: events_of :many
-- The timeline of one message.
SELECT at, kind, data::text AS data FROM message_events WHERE tenant_id = $1 AND message_id = $2 ORDER BY at LIMIT 1000;

-- name: message_get :one
-- One message as it stands now.
SELECT *, variables::text AS variables_text FROM message_states WHERE tenant_id = $1 AND id = $2;

-- name: message_search :many
-- Messages of a tenant, newest first, before `$2`; each filter is off when null.
SELECT m.id, m.channel, m.sender_id, m.message_class, m.campaign_id, m.contact_id, m.address, m.purpose, m.state, m.attempts,
       m.due_at, m.next_at, m.waiting_for, m.finished_at, m.provider_id, m.code, m.detail
FROM message_states m
WHERE m.tenant_id = $1 AND m.id < $2 AND ($4::text IS NULL OR m.state = $4) AND ($5::uuid IS NULL OR m.campaign_id = $5)
  AND ($6::text IS NULL OR m.address = $6) AND ($7::text IS NULL OR m.channel = $7)
ORDER BY m.id DESC LIMIT $3;

-- name: message_search_address :many
-- Messages to one address, newest first, before `$2`; by its index.
SELECT m.id, m.channel, m.sender_id, m.message_class, m.campaign_id, m.contact_id, m.address, m.purpose, m.state, m.attempts,
       m.due_at, m.next_at, m.waiting_for, m.finished_at, m.provider_id, m.code, m.detail
FROM message_states m
WHERE m.tenant_id = $1 AND m.address = $4 AND m.id < $2 AND ($5::text IS NULL OR m.state = $5)
ORDER BY m.id DESC LIMIT $3;

-- name: uncertain_list :many
-- Messages whose answer was lost, oldest first, after `$2`.
SELECT u.message_id, u.since, u.cause, u.detail, m.address, m.campaign_id, l.channel, l.sender_id, l.message_class, m.attempts
FROM uncertain_messages u
JOIN messages m ON m.tenant_id = u.tenant_id AND m.id = u.message_id
JOIN lanes l ON l.tenant_id = u.tenant_id AND l.id = u.lane_id
WHERE u.tenant_id = $1 AND u.message_id > $2 AND ($4::uuid IS NULL OR m.campaign_id = $4)
ORDER BY u.message_id LIMIT $3;

-- name: uncertain_ids :many
-- The ids of uncertain messages of a tenant, or of one campaign.
SELECT u.message_id FROM uncertain_messages u JOIN messages m ON m.tenant_id = u.tenant_id AND m.id = u.message_id
WHERE u.tenant_id = $1 AND ($2::uuid IS NULL OR m.campaign_id = $2) ORDER BY u.message_id LIMIT $3;

-- name: uncertain_resend :many
-- Queue uncertain messages again with what was frozen at their first attempt; what was cancelled with its campaign is never sent,
-- nor what was a person's who is erased.
WITH held AS ( -- before the list, as reports lock; what somebody else is writing is settled by them, and nobody waits for it
  SELECT m.id FROM unnest($2::uuid[]) t(id) JOIN messages m ON m.tenant_id = $1 AND m.id = t.id
  WHERE m.address <> 'erased' AND NOT EXISTS (SELECT FROM campaigns c WHERE c.tenant_id = $1 AND c.id = m.campaign_id AND c.state = 'cancelled')
  ORDER BY m.id FOR UPDATE OF m SKIP LOCKED
), gone AS (
  DELETE FROM uncertain_messages u USING held h WHERE u.tenant_id = $1 AND u.message_id = h.id
  RETURNING u.message_id, u.lane_id, u.cause
), ledger AS (
  UPDATE messages m SET state = 'queued', code = NULL, detail = NULL, finished_at = NULL FROM gone g
  WHERE m.tenant_id = $1 AND m.id = g.message_id
  RETURNING m.id, m.lane_id, m.priority, m.attempts, m.attempted_at
), waiting AS (
  INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state, attempt, attempted_at)
  SELECT $1, id, lane_id, now(), priority, 0, attempts, attempted_at FROM ledger
), opened AS ( -- also a lane that is open: its lock keeps whoever would close it until this is committed
  UPDATE lanes l SET is_open = true FROM (SELECT DISTINCT lane_id FROM gone) g WHERE l.tenant_id = $1 AND l.id = g.lane_id
), deltas AS (
  INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, code, n)
  SELECT $1, lane_id, date_trunc('hour', now()), 'uncertain', cause, -count(*) FROM gone GROUP BY 2, 5
), events AS (
  INSERT INTO message_events (tenant_id, message_id, kind, data)
  SELECT $1, id, 'resent', jsonb_build_object('actor', $3::text, 'reason', $4::text) FROM ledger
)
SELECT id FROM ledger;

-- name: uncertain_withdrawn :many
-- Which of these are uncertain and belong to a cancelled campaign: when they did not go, they never will.
SELECT u.message_id AS id FROM uncertain_messages u JOIN messages m ON m.tenant_id = u.tenant_id AND m.id = u.message_id
JOIN campaigns c ON c.tenant_id = m.tenant_id AND c.id = m.campaign_id AND c.state = 'cancelled'
WHERE u.tenant_id = $1 AND u.message_id = ANY ($2::uuid[]);

-- name: uncertain_mark :many
-- Settle uncertain messages by hand, or by an answer that came late: `$3` is sent, failed, or cancelled with its campaign.
WITH held AS ( -- before the list, as reports lock; what somebody else is writing is settled by them, and nobody waits for it
  SELECT m.id FROM unnest($2::uuid[]) t(id) JOIN messages m ON m.tenant_id = $1 AND m.id = t.id ORDER BY m.id FOR UPDATE OF m SKIP LOCKED
), gone AS (
  DELETE FROM uncertain_messages u USING held h WHERE u.tenant_id = $1 AND u.message_id = h.id RETURNING u.message_id, u.lane_id, u.cause
), ledger AS (
  UPDATE messages m SET state = $3, code = CASE WHEN $3 = 'failed' THEN 'answer_lost' END, detail = $5, finished_at = now() FROM gone g
  WHERE m.tenant_id = $1 AND m.id = g.message_id
), deltas AS (
  INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, code, n)
  SELECT $1, lane_id, date_trunc('hour', now()), 'uncertain', cause, -count(*) FROM gone GROUP BY 2, 5
  UNION ALL SELECT $1, lane_id, date_trunc('hour', now()), $3, CASE WHEN $3 = 'failed' THEN 'answer_lost' ELSE '' END, count(*) FROM gone GROUP BY 2
), events AS (
  INSERT INTO message_events (tenant_id, message_id, kind, data) SELECT $1, message_id, $3, jsonb_build_object('marked_by', $4::text, 'reason', $5::text) FROM gone
)
SELECT message_id AS id FROM gone;

-- name: counts_of_lanes :many
-- Messages of lanes by state and code, from the folded rollups and what is not folded yet.
SELECT state, code, sum(n)::bigint AS n FROM (
  SELECT state, code, n FROM rollups WHERE tenant_id = $1 AND lane_id = ANY($2::int[])
  UNION ALL SELECT state, code, n FROM rollup_deltas WHERE tenant_id = $1 AND lane_id = ANY($2::int[])
) t GROUP BY state, code HAVING sum(n) <> 0;

-- name: queue_of_lanes :many
-- Open messages of lanes by queue state; in two parts, because two partial indexes cover the states.
SELECT state, count(*) AS n FROM (
  SELECT state FROM queue WHERE tenant_id = $1 AND lane_id = ANY($2::int[]) AND state = 0
  UNION ALL SELECT state FROM queue WHERE tenant_id = $1 AND lane_id = ANY($2::int[]) AND state IN (1, 4, 5)
) t GROUP BY state;

-- name: fold_rollups :value
-- Fold appended deltas into the rollups and the counts of open messages; gives how many rows were folded.
-- tenant: none, because it folds every tenant's rows in one pass, grouped by tenant
WITH gone AS (
  DELETE FROM rollup_deltas WHERE ctid = ANY (ARRAY(SELECT ctid FROM rollup_deltas LIMIT 20000 FOR UPDATE SKIP LOCKED)) RETURNING tenant_id, lane_id, hour, state, code, n
), folded AS (
  INSERT INTO rollups (tenant_id, lane_id, hour, state, code, n)
  SELECT tenant_id, lane_id, hour, state, code, sum(n) FROM gone GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
  ON CONFLICT (tenant_id, lane_id, hour, state, code) DO UPDATE SET n = rollups.n + excluded.n
), opened AS ( -- what every tenant, and the nil one for all of them, has open
  INSERT INTO open_counts AS c (tenant_id, transactional, bulk)
  SELECT coalesce(g.tenant_id, '00000000-0000-0000-0000-000000000000') AS id, coalesce(sum(g.n) FILTER (WHERE l.message_class = 'transactional'), 0),
         coalesce(sum(g.n) FILTER (WHERE l.message_class IS DISTINCT FROM 'transactional'), 0)
  FROM (SELECT tenant_id, lane_id, sum(CASE state WHEN 'accepted' THEN n ELSE -n END) AS n FROM gone GROUP BY 1, 2) g
  LEFT JOIN lanes l ON l.tenant_id = g.tenant_id AND l.id = g.lane_id
  GROUP BY GROUPING SETS ((g.tenant_id), ()) HAVING count(*) > 0 ORDER BY id
  ON CONFLICT (tenant_id) DO UPDATE SET transactional = c.transactional + excluded.transactional, bulk = c.bulk + excluded.bulk
)
SELECT count(*) FROM gone;

-- name: queue_stats :many
-- Depth and oldest age of the queue by channel and state, for metrics and the dashboards.
-- tenant: none, because operators see the whole installation as aggregates
SELECT l.channel, q.state, sum(q.depth)::bigint AS depth, min(q.oldest_at) AS oldest_at
FROM (SELECT tenant_id, lane_id, state, count(*) AS depth, min(due_at) AS oldest_at FROM queue GROUP BY 1, 2, 3) q
JOIN lanes l ON l.tenant_id = q.tenant_id AND l.id = q.lane_id
GROUP BY 1, 2 ORDER BY 1, 2;

-- name: queue_unworkable :many
-- Senders whose messages wait because they cannot be worked on (`$1`: causes that say so), most messages first.
-- tenant: none, because it is told to the installation's operators
SELECT q.tenant_id, coalesce(s.name, l.sender_id::text) AS sender, q.reason AS cause, q.n AS count, q.oldest_at AS since
FROM (SELECT tenant_id, lane_id, reason, count(*) AS n, coalesce(min(attempted_at), min(due_at)) AS oldest_at FROM queue
      WHERE reason = ANY($1::text[]) GROUP BY 1, 2, 3) q
JOIN lanes l ON l.tenant_id = q.tenant_id AND l.id = q.lane_id
LEFT JOIN senders s ON s.tenant_id = l.tenant_id AND s.id = l.sender_id
ORDER BY q.n DESC, q.tenant_id, l.id LIMIT 1000;

-- name: window_counts :many
-- How the newest messages of a tenant stand, by channel, state and code: `$3` at most of those from id `$2` on. With `$3` beyond
-- its reach the window is one of time, else of numbers.
SELECT channel, state, coalesce(code, '') AS code, count(*)::bigint AS n, min(id::text)::uuid AS first
FROM (SELECT id, channel, state, code FROM message_states WHERE tenant_id = $1 AND id >= $2 ORDER BY id DESC LIMIT $3) newest
GROUP BY 1, 2, 3;

-- name: sent_lately :one
-- How many messages of a tenant were handed over in the last minute, by its newest `$2` events; `reached` are those that were looked
-- at, `since` the oldest of them: when there were more, the minute is not whole.
SELECT count(*) FILTER (WHERE kind = 'sent')::bigint AS sent, count(*)::bigint AS reached, min(at) AS since, clock_timestamp() AS now
FROM (SELECT kind, at FROM message_events WHERE tenant_id = $1 ORDER BY position DESC LIMIT $2) newest
WHERE at > clock_timestamp() - interval '1 minute';

-- name: totals_before :many
-- Messages ever counted per channel and state before an hour: read once an hour, because old hours do not change.
-- tenant: none, because operators see the whole installation as aggregates
SELECT l.channel, r.state, sum(r.n)::bigint AS n
FROM (SELECT tenant_id, lane_id, state, sum(n) AS n FROM rollups WHERE hour < $1 GROUP BY 1, 2, 3) r
JOIN lanes l ON l.tenant_id = r.tenant_id AND l.id = r.lane_id
GROUP BY 1, 2;

-- name: totals_since :many
-- Messages counted per channel and state from an hour on, what is not folded yet included; by index, lane by lane.
-- tenant: none, because operators see the whole installation as aggregates
SELECT t.channel, t.state, sum(t.n)::bigint AS n FROM (
  SELECT l.channel, r.state, r.n FROM lanes l
  CROSS JOIN LATERAL (SELECT state, n FROM rollups x WHERE x.tenant_id = l.tenant_id AND x.lane_id = l.id AND x.hour >= $1) r
  UNION ALL SELECT l.channel, d.state, d.n FROM rollup_deltas d JOIN lanes l ON l.tenant_id = d.tenant_id AND l.id = d.lane_id
) t GROUP BY 1, 2;

-- name: idempotency_lock :value
-- Whether this request is the only one that runs under its key now.
SELECT pg_try_advisory_xact_lock(hashtextextended($1::uuid::text || $2::text, 0));

-- name: idempotency_find :one
-- What was answered under a key of a tenant before.
SELECT request_hash, status, body::text AS body FROM idempotency_keys WHERE tenant_id = $1 AND key = $2;

-- name: idempotency_keep :run
-- Keep the answer under its key, in the transaction that accepts.
INSERT INTO idempotency_keys (tenant_id, key, request_hash, status, body) VALUES ($1, $2, $3, $4, $5::text::jsonb);

-- name: worker_beat :run
-- A process says that it lives, what it is and when its loops last ran.
-- tenant: none, because processes serve every tenant
INSERT INTO workers (id, role, host, boot_id, pid, version, journal, state, loops, health_url, stalled_at, stalled_s)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb, $10, $11, $12)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, loops = excluded.loops, health_url = excluded.health_url, heartbeat_at = clock_timestamp(),
  stalled_at = excluded.stalled_at, stalled_s = excluded.stalled_s;

-- name: worker_list :many
-- Processes that have been heard of, newest heartbeat first.
-- tenant: none, because processes serve every tenant
SELECT id, role, host, boot_id, pid, version, journal, state, loops::text AS loops, health_url, started_at, heartbeat_at,
       extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 AS silent_s, stalled_s::float8 AS stalled_s,
       extract(epoch FROM clock_timestamp() - stalled_at)::float8 AS stalled_ago_s
FROM workers ORDER BY heartbeat_at DESC LIMIT 1000;

-- name: worker_forget :run
-- Drop the records of processes that have been silent for `$1` days.
-- tenant: none, because processes serve every tenant
DELETE FROM workers WHERE heartbeat_at < now() - $1 * interval '1 day';

-- name: partitions_old :many
-- Monthly partitions of the ledger that end before `$1` (as the least id of that moment), with their bounds.
-- tenant: none, because partitions hold every tenant's rows
SELECT c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bound
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'public.messages'::regclass AND pg_get_expr(c.relpartbound, c.oid) LIKE 'FOR VALUES FROM%'
  AND (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''([0-9a-f-]+)''\)'))[1]::uuid <= $1
ORDER BY 1;

-- name: partition_has_open :value
-- Whether a message of an id range is open or waits for a decision: such a partition is not dropped.
-- tenant: none, because a partition holds every tenant's rows
SELECT EXISTS (SELECT 1 FROM queue WHERE message_id >= $1 AND message_id < $2)
    OR EXISTS (SELECT 1 FROM uncertain_messages WHERE message_id >= $1 AND message_id < $2);

-- name: default_partition_rows :value
-- Whether a message landed outside every monthly partition: partitions were not made ahead.
-- tenant: none, because it is an alarm of the installation
SELECT outrider_rows_outside();

-- name: idempotency_purge :run
-- Drop idempotency keys older than `$1` hours, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(SELECT ctid FROM idempotency_keys WHERE created_at < now() - $1 * interval '1 hour' LIMIT $2));

-- name: rollups_purge :run
-- Drop rollups of lanes without campaign that are older than `$1` days, `$2` at a time; a campaign keeps its counts.
-- tenant: none, because retention is the installation's
DELETE FROM rollups r WHERE ctid = ANY (ARRAY(
  SELECT x.ctid FROM rollups x JOIN lanes l ON l.tenant_id = x.tenant_id AND l.id = x.lane_id
  WHERE x.hour < now() - $1 * interval '1 day' AND l.campaign_id IS NULL LIMIT $2));

-- name: recipients_purge :run
-- Drop the recipient rows of campaigns that finished more than `$1` days ago, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM campaign_recipients WHERE ctid = ANY (ARRAY(
  SELECT r.ctid FROM campaigns c JOIN campaign_recipients r ON r.tenant_id = c.tenant_id AND r.campaign_id = c.id
  WHERE c.finished_at < now() - $1 * interval '1 day' LIMIT $2));

-- name: tell_ready :run
-- Wake the workers: something became ready. Never in a hot transaction. Nothing of it needs to be durable, so that
-- this transaction alone does not wait for the disk.
-- tenant: none, because it only rings a bell
SELECT set_config('synchronous_commit', 'off', true), pg_notify('outrider_ready', '');

-- name: senders_named :many
-- Senders in use of a tenant, by id or name, for admission.
SELECT id, name, channel FROM senders
WHERE tenant_id = $1 AND archived_at IS NULL AND ($2::text[] IS NULL OR id::text = ANY($2) OR name = ANY($2))
ORDER BY created_at LIMIT 1000;

-- name: template_content :one
-- The content of a template's version (the newest when `$3` is null), by its id or name.
SELECT t.channel, v.content_id, v.version FROM templates t JOIN template_versions v ON v.tenant_id = t.tenant_id AND v.template_id = t.id
WHERE t.tenant_id = $1 AND (t.id::text = $2 OR t.name = $2) AND t.archived_at IS NULL AND ($3::int IS NULL OR v.version = $3)
ORDER BY v.version DESC LIMIT 1;

-- name: contacts_at :many
-- The contacts behind addresses, so that their consent is asked.
SELECT address, contact_id FROM addresses WHERE tenant_id = $1 AND channel = $2 AND address = ANY($3::text[]);

-- name: single_keys :many
-- Seize the idempotency keys of single calls, and what was answered under each before. A key whose answer was committed
-- between the begin of this statement and the seizing shows no answer here; keeping a second one is refused by its table.
SELECT w.key, pg_try_advisory_xact_lock(hashtextextended($1::uuid::text || w.key, 0)) AS is_seized, i.request_hash, i.status, i.body
FROM unnest($2::text[]) w(key)
LEFT JOIN LATERAL (SELECT request_hash, status, body::text AS body FROM idempotency_keys x
                   WHERE x.tenant_id = $1 AND x.key = w.key OFFSET 0) i ON true;

-- name: single_facts :many
-- What single calls are checked against, in one round trip: senders in use by id or name (all when `$2` is null) with
-- their open lanes, contents of templates (`$3`, `$4`: as named, newest version when null), contacts behind addresses,
-- and the quotas, as `open_room` gives them.
WITH usable AS MATERIALIZED (
  SELECT id, name, channel FROM senders
  WHERE tenant_id = $1 AND archived_at IS NULL AND ($2::text[] IS NULL OR id::text = ANY($2) OR name = ANY($2))
  ORDER BY created_at LIMIT 1000
)
SELECT 'sender' AS kind, name, id, channel, 0 AS number FROM usable
UNION ALL
SELECT 'lane', l.message_class, s.id, s.channel, l.id
FROM usable s
CROSS JOIN LATERAL (SELECT message_class, id FROM lanes x WHERE x.tenant_id = $1 AND x.channel = s.channel AND x.sender_id = s.id
                    AND x.campaign_id IS NULL AND x.is_open OFFSET 0) l
UNION ALL
SELECT 'template', '', v.content_id, v.channel, w.number
FROM unnest($3::text[], $4::int[]) WITH ORDINALITY w(name, version, number)
CROSS JOIN LATERAL (SELECT t.channel, v.content_id FROM templates t JOIN template_versions v ON v.tenant_id = t.tenant_id AND v.template_id = t.id
                    WHERE t.tenant_id = $1 AND (t.id::text = w.name OR t.name = w.name) AND t.archived_at IS NULL
                      AND (w.version IS NULL OR v.version = w.version)
                    ORDER BY v.version DESC LIMIT 1) v
UNION ALL
SELECT 'contact', w.address, a.contact_id, w.channel, 0
FROM unnest($5::text[], $6::text[]) w(channel, address)
CROSS JOIN LATERAL (SELECT contact_id FROM addresses x WHERE x.tenant_id = $1 AND x.channel = w.channel AND x.address = w.address OFFSET 0) a
UNION ALL
SELECT 'room', jsonb_build_object(
         'transactional', coalesce(c.transactional, 0), 'bulk', coalesce(c.bulk, 0), 'in_all', coalesce(a.transactional + a.bulk, 0),
         'own_most', t.open_most, 'most_in_all', i.open_most, 'tenant_most', i.tenant_open_most, 'bulk_percent', i.open_bulk_percent)::text,
       NULL, '', 0
FROM installation i
JOIN tenants t ON t.id = $1
LEFT JOIN open_counts c ON c.tenant_id = $1
LEFT JOIN open_counts a ON a.tenant_id = '00000000-0000-0000-0000-000000000000';

-- name: lanes_close :run
-- Take a campaign's lanes out of the directory: it is finished. Not a lane in which a message waits again since; lock
-- the lanes before, so that this statement sees what others queued under their lock.
UPDATE lanes l SET is_open = false
WHERE l.tenant_id = $1 AND l.campaign_id = $2 AND l.is_open AND NOT EXISTS (
  SELECT 1 FROM (
    (SELECT 1 FROM queue q WHERE q.tenant_id = l.tenant_id AND q.lane_id = l.id AND q.state = 0
     ORDER BY q.priority, q.due_at, q.message_id LIMIT 1)
    UNION ALL
    (SELECT 1 FROM queue q WHERE q.tenant_id = l.tenant_id AND q.lane_id = l.id AND q.state IN (1, 4, 5) ORDER BY q.state LIMIT 1)
  ) still_open);

-- name: fan_out_again :one
-- Queue the next failed messages of a campaign and its earlier retries (`$3`) again as messages of the retry `$2`: what ended by a
-- passing cause before `$9`, was nobody's turn since, and still goes to the person it went to. After `$6` by message id; with the
-- words, values and address that were frozen then. Gives the last message looked at, how many were looked at, queued, not theirs any more.
WITH page AS MATERIALIZED (
  SELECT m.* FROM unnest($3::uuid[]) f(id)
  CROSS JOIN LATERAL (SELECT x.id, x.contact_id, x.content_id, x.address, x.purpose, x.variables, x.state, x.code, x.finished_at FROM messages x
                      WHERE x.tenant_id = $1 AND x.campaign_id = f.id AND x.id > $6 ORDER BY x.id LIMIT $7) m
  ORDER BY m.id LIMIT $7
), due AS MATERIALIZED (
  SELECT p.*, outrider_id() AS message_id,
         EXISTS (SELECT 1 FROM addresses a WHERE a.tenant_id = $1 AND a.channel = $5 AND a.address = p.address AND a.contact_id = p.contact_id) AS is_theirs
  FROM page p
  WHERE p.state = 'failed' AND p.code = ANY ($8::text[]) AND p.finished_at <= $9::timestamptz
    AND NOT EXISTS (SELECT 1 FROM campaign_recipients r
                    WHERE r.tenant_id = $1 AND r.campaign_id = ANY ($3::uuid[]) AND r.contact_id = p.contact_id AND r.message_id > p.id)
    AND NOT EXISTS (SELECT 1 FROM campaign_recipients r
                    WHERE r.tenant_id = $1 AND r.campaign_id = ANY ($3::uuid[]) AND r.address = p.address AND r.message_id > p.id)
), recipients AS (
  INSERT INTO campaign_recipients (tenant_id, campaign_id, contact_id, address, message_id)
  SELECT $1, $2, contact_id, address, message_id FROM due WHERE is_theirs
  ON CONFLICT DO NOTHING
  RETURNING message_id
), ledger AS (
  INSERT INTO messages (tenant_id, id, lane_id, campaign_id, contact_id, content_id, address, purpose, variables, priority, due_at, expires_at)
  SELECT $1, message_id, $4, $2, contact_id, content_id, address, purpose, variables, $10, now(), $11
  FROM due WHERE (message_id IN (SELECT message_id FROM recipients)) IS TRUE
), waiting AS (
  INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state)
  SELECT $1, message_id, $4, now(), $10, 0 FROM recipients
), deltas AS (
  INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, n)
  SELECT $1, $4, date_trunc('hour', now()), 'accepted', count(*) FROM recipients HAVING count(*) > 0
)
SELECT (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last, (SELECT count(*) FROM page) AS looked_at,
       (SELECT count(*) FROM recipients) AS queued, (SELECT count(*) FROM due WHERE NOT is_theirs) AS not_theirs;

-- name: reported :many
-- What providers report of messages: `$2..$6` one report each, at most one per message. The greatest state of the table of
-- precedence holds; a report of another id at the provider than the known one moves nothing (an empty one is none: letters
-- that come back know of no ids). Gives how each stands; what somebody else is writing is `locked`, and nobody waits for it.
WITH told AS (
  SELECT * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[]) t(id, state, provider_id, code, detail)
), held AS (
  SELECT m.id, m.state AS was, coalesce(m.code, '') AS was_code, m.provider_id AS known, m.lane_id, m.address, t.state, t.provider_id, t.code, t.detail
  FROM told t JOIN messages m ON m.tenant_id = $1 AND m.id = t.id AND m.id >= $7 AND m.id <= $8
  ORDER BY m.id FOR UPDATE OF m SKIP LOCKED
), moved AS (
  UPDATE messages m SET state = h.state, provider_id = coalesce(m.provider_id, nullif(h.provider_id, '')), code = nullif(h.code, ''), detail = nullif(h.detail, '')
  FROM held h
  WHERE m.tenant_id = $1 AND m.id = h.id AND m.id >= $7 AND m.id <= $8 AND h.was IN ('uncertain', 'sent', 'delivered', 'failed', 'bounced')
    AND (h.known IS NULL OR h.provider_id IN ('', h.known))
    AND array_position(ARRAY['uncertain', 'sent', 'delivered', 'failed', 'bounced'], h.state) > array_position(ARRAY['uncertain', 'sent', 'delivered', 'failed', 'bounced'], h.was)
  RETURNING m.id
), deltas AS (
  INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, code, n)
  SELECT $1, h.lane_id, date_trunc('hour', now()), h.was, h.was_code, -count(*) FROM held h JOIN moved v ON v.id = h.id GROUP BY 2, 4, 5
  UNION ALL
  SELECT $1, h.lane_id, date_trunc('hour', now()), h.state, coalesce(h.code, ''), count(*) FROM held h JOIN moved v ON v.id = h.id GROUP BY 2, 4, 5
), certain AS (
  DELETE FROM uncertain_messages u USING moved v WHERE u.tenant_id = $1 AND u.message_id = v.id
)
SELECT h.id, h.was, h.known, h.address, l.channel, v.id IS NOT NULL AS is_moved
FROM held h JOIN lanes l ON l.tenant_id = $1 AND l.id = h.lane_id LEFT JOIN moved v ON v.id = h.id
UNION ALL
SELECT m.id, 'locked', m.provider_id, m.address, l.channel, false
FROM told t JOIN messages m ON m.tenant_id = $1 AND m.id = t.id AND m.id >= $7 AND m.id <= $8 JOIN lanes l ON l.tenant_id = $1 AND l.id = m.lane_id
WHERE NOT EXISTS (SELECT FROM held h WHERE h.id = m.id);

-- name: connections_of :many
-- The connection of the sender of each message; `$3`, `$4` are the least and greatest id.
SELECT m.id, s.connection_id
FROM unnest($2::uuid[]) t(id)
JOIN messages m ON m.tenant_id = $1 AND m.id = t.id AND m.id >= $3 AND m.id <= $4
JOIN lanes l ON l.tenant_id = $1 AND l.id = m.lane_id
JOIN senders s ON s.tenant_id = $1 AND s.id = l.sender_id;

-- name: handed_over :many
-- The ids at the provider of messages, with their lane; `$3`, `$4` are the least and greatest id.
SELECT m.id, m.provider_id, l.id AS lane_id, l.channel, l.sender_id, l.campaign_id, l.message_class
FROM unnest($2::uuid[]) t(id)
JOIN messages m ON m.tenant_id = $1 AND m.id = t.id AND m.id >= $3 AND m.id <= $4
JOIN lanes l ON l.tenant_id = $1 AND l.id = m.lane_id
WHERE m.provider_id IS NOT NULL;

-- name: tenants_in_doubt :many
-- Tenants with messages of a channel whose answer was lost at least `$1` seconds ago, and whose request is not repeated.
-- tenant: none, because it is the directory of the loop
SELECT DISTINCT u.tenant_id FROM uncertain_messages u JOIN lanes l ON l.tenant_id = u.tenant_id AND l.id = u.lane_id
WHERE u.cause = 'answer_lost' AND u.since < now() - $1 * interval '1 second' AND u.since > now() - interval '3 days' AND l.channel = ANY ($2::text[])
  AND NOT EXISTS (SELECT FROM keyed_requests k WHERE k.tenant_id = u.tenant_id AND k.message_id = u.message_id AND k.ends_at > now());

-- name: in_doubt :many
-- Messages of a tenant whose answer was lost at least `$2` seconds ago and at most three days, oldest first, with their lane.
-- `is_old` when what no provider has was not taken: long enough ago, and nobody changed since by which connection they go
-- (workers may have used the old one for some seconds more). `$5`: these messages instead, however long ago. Behind `$6`, `$7`:
-- those that nobody can tell anything about do not stand in the way of the others.
SELECT m.id, m.contact_id, m.content_id, m.address, m.purpose, m.variables::text AS variables, m.attempts, coalesce(m.attempted_at, u.since) AS attempted_at,
       u.since, u.since < now() - $3 * interval '1 second' AND NOT EXISTS (
         SELECT FROM senders s WHERE s.tenant_id = $1 AND s.id = l.sender_id AND s.updated_at > greatest(s.created_at, coalesce(m.attempted_at, u.since) - interval '10 seconds')
       ) AND NOT EXISTS (
         SELECT FROM connections c WHERE c.tenant_id = $1 AND c.updated_at > greatest(c.created_at, coalesce(m.attempted_at, u.since) - interval '10 seconds')
       ) AS is_old, l.id AS lane_id, l.channel, l.sender_id, l.campaign_id, l.message_class
FROM uncertain_messages u
JOIN messages m ON m.tenant_id = u.tenant_id AND m.id = u.message_id
JOIN lanes l ON l.tenant_id = u.tenant_id AND l.id = u.lane_id
WHERE u.tenant_id = $1 AND u.cause = 'answer_lost' AND l.channel = ANY ($4::text[]) AND m.address <> 'erased'
  AND CASE WHEN $5::uuid[] IS NULL THEN u.since < now() - $2 * interval '1 second' AND u.since > now() - interval '3 days'
           ELSE u.message_id = ANY ($5) END
  AND NOT EXISTS (SELECT FROM keyed_requests k WHERE k.tenant_id = $1 AND k.message_id = u.message_id AND k.ends_at > now())
  AND ($6::timestamptz IS NULL OR (u.since, u.message_id) > ($6, $7::uuid))
ORDER BY u.since, u.message_id LIMIT $8;

-- name: known_at_provider :many
-- Ids at the provider of the messages to some addresses: none of them is one whose answer was lost.
SELECT address, provider_id FROM messages WHERE tenant_id = $1 AND address = ANY ($2::text[]) AND provider_id IS NOT NULL;
