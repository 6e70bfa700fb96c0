-- Statements of callbacks: events, refusals, exceptions, and what people wrote.

-- name: take_in :many
-- Keep callbacks, each once; what was told before only counts, and shows when it says something else this time.
INSERT INTO webhook_events (tenant_id, connection_id, provider, event_key, kind, word, provider_id, message_id, data, body_hash, signature, source, state, repeats, is_conflicting)
SELECT $1, t.connection_id, t.provider, t.event_key, t.kind, t.word, t.provider_id, t.message_id, t.data::jsonb, t.body_hash, t.signature, t.source, t.state, t.repeats, t.is_conflicting
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::text[], $10::bytea[], $11::text[], $12::text[], $13::text[], $14::int[], $15::boolean[])
     t(connection_id, provider, event_key, kind, word, provider_id, message_id, data, body_hash, signature, source, state, repeats, is_conflicting)
ORDER BY t.connection_id, t.event_key
ON CONFLICT (tenant_id, connection_id, event_key) DO UPDATE
SET repeats = webhook_events.repeats + 1 + excluded.repeats,
    is_conflicting = webhook_events.is_conflicting OR excluded.is_conflicting OR webhook_events.body_hash <> excluded.body_hash
RETURNING id, connection_id, event_key, xmax = 0 AS is_new, body_hash;

-- name: tenants_with_reports :many
-- Tenants in which reports wait to be applied, and how long the oldest has: from tenant to tenant along the index.
-- tenant: none, because it is the directory of the loop
WITH RECURSIVE waiting AS (
  (SELECT tenant_id, due_at FROM webhook_events WHERE state IN ('new', 'parked') ORDER BY tenant_id, due_at LIMIT 1)
  UNION ALL
  SELECT n.tenant_id, n.due_at FROM waiting w
  CROSS JOIN LATERAL (SELECT e.tenant_id, e.due_at FROM webhook_events e WHERE e.state IN ('new', 'parked') AND e.tenant_id > w.tenant_id
                      ORDER BY e.tenant_id, e.due_at LIMIT 1) n
)
SELECT tenant_id, extract(epoch FROM clock_timestamp() - due_at)::float8 AS waited_s FROM waiting WHERE due_at <= clock_timestamp();

-- name: reports_parked :one
-- Reports that were tried and wait for their next turn, and the age of the oldest: from tenant to tenant along the index. All
-- that is due later is parked; of what is due already, which may be new and much, only the last seconds are looked at.
-- tenant: none, because it is a figure of the installation
WITH RECURSIVE waiting AS (
  (SELECT tenant_id FROM webhook_events WHERE state IN ('new', 'parked') ORDER BY tenant_id LIMIT 1)
  UNION ALL
  SELECT n.tenant_id FROM waiting w
  CROSS JOIN LATERAL (SELECT e.tenant_id FROM webhook_events e WHERE e.state IN ('new', 'parked') AND e.tenant_id > w.tenant_id
                      ORDER BY e.tenant_id LIMIT 1) n
)
SELECT count(*) AS n, coalesce(extract(epoch FROM clock_timestamp() - min(e.received_at)), 0)::float8 AS oldest_s
FROM waiting w JOIN webhook_events e ON e.tenant_id = w.tenant_id AND e.state IN ('new', 'parked') AND e.due_at > now() - interval '5 seconds'
WHERE e.state = 'parked';

-- name: reports_due :many
-- Reports of a tenant that are to be applied, oldest first, or `$3` alone; held until the end of the transaction.
SELECT id, word, provider_id, message_id, data::text AS data, received_at, received_at < now() - interval '1 day' AS is_old,
       applied_at IS NOT NULL AS is_replayed, note,
       CASE WHEN applied_at IS NULL AND note <> 'replayed' THEN extract(epoch FROM clock_timestamp() - received_at)::float8 END AS waited_s
FROM webhook_events WHERE tenant_id = $1 AND state IN ('new', 'parked') AND due_at <= now() AND ($3::uuid IS NULL OR id = $3)
ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED;

-- name: report_ends :run
-- What became of reports: applied, parked until their message is finished here (looked at again within seconds while they
-- are young), or of no message of ours.
UPDATE webhook_events e SET state = d.state, note = d.note, attempts = attempts + 1,
       due_at = CASE WHEN d.state = 'parked' THEN now() + least(CASE WHEN e.received_at > now() - interval '10 minutes' THEN 3 ELSE 60 END, 0.25 * 2 ^ least(attempts, 8)) * interval '1 second' ELSE e.due_at END,
       applied_at = CASE WHEN d.state = 'applied' THEN now() ELSE e.applied_at END
FROM unnest($2::uuid[], $3::text[], $4::text[]) d(id, state, note) WHERE e.tenant_id = $1 AND e.id = d.id;

-- name: ids_repeated :many
-- Ids of providers under which reports of two messages came in the last day, of the `$1` latest reports: whichever worker sent
-- the messages or applied the reports. The latest first, at most twenty.
-- tenant: none, because it is told to the installation's operators
SELECT e.tenant_id, c.name AS connection, e.provider_id, max(e.received_at) AS at
FROM (SELECT tenant_id, connection_id, provider_id, message_id, state, received_at FROM webhook_events
      WHERE received_at > now() - interval '1 day' ORDER BY received_at DESC LIMIT $1) e
JOIN connections c ON c.tenant_id = e.tenant_id AND c.id = e.connection_id
WHERE e.state = 'applied' AND e.message_id IS NOT NULL AND e.provider_id <> ''
GROUP BY e.tenant_id, c.name, e.provider_id HAVING min(e.message_id::text) <> max(e.message_id::text)
ORDER BY max(e.received_at) DESC LIMIT 20;

-- name: inbound_ends :run
-- What became of something that somebody wrote.
UPDATE webhook_events SET state = $3, note = $4, applied_at = now() WHERE tenant_id = $1 AND id = $2;

-- name: replay :many
-- Apply reports again, by id or all since a moment; applying twice changes nothing. Locked in the order of `take_in`.
UPDATE webhook_events e SET state = 'new', due_at = now(), attempts = 0, note = 'replayed'
FROM (SELECT id FROM webhook_events
      WHERE tenant_id = $1 AND kind = 'report' AND state IN ('applied', 'orphan', 'parked')
        AND (id = ANY ($2::uuid[]) OR received_at >= $3::timestamptz)
      ORDER BY connection_id, event_key FOR UPDATE) d
WHERE e.tenant_id = $1 AND e.id = d.id
RETURNING e.id;

-- name: events_page :many
-- Callbacks, newest first, before `$2`; each filter is off when null.
SELECT id, connection_id, provider, kind, word, provider_id, message_id, signature, source, state, note, attempts, repeats, is_conflicting, received_at, applied_at
FROM webhook_events
WHERE tenant_id = $1 AND id < $2 AND ($4::text IS NULL OR state = $4) AND ($5::uuid IS NULL OR connection_id = $5)
  AND ($6::text IS NULL OR signature = $6) AND ($7::boolean IS NOT TRUE OR repeats > 0)
  AND ($8::text IS NULL OR source = $8) AND ($9::timestamptz IS NULL OR received_at >= $9) AND ($10::timestamptz IS NULL OR received_at < $10)
ORDER BY id DESC LIMIT $3;

-- name: refused :run
-- Count callbacks that were not taken.
INSERT INTO webhook_refusals (tenant_id, connection_id, minute, source, reason, n)
SELECT $1, t.connection_id, date_trunc('minute', now()), t.source, t.reason, t.n FROM unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[]) t(connection_id, source, reason, n)
ORDER BY 2, 4, 5
ON CONFLICT (tenant_id, connection_id, minute, source, reason) DO UPDATE SET n = webhook_refusals.n + excluded.n;

-- name: refusals :many
-- Callbacks that were not taken, by minute, newest first, before a row of theirs.
SELECT minute, connection_id, source, reason, n FROM webhook_refusals
WHERE tenant_id = $1 AND ($3::timestamptz IS NULL OR (minute, connection_id, source, reason) < ($3, $4::uuid, $5::text, $6::text))
ORDER BY minute DESC, connection_id DESC, source DESC, reason DESC LIMIT $2;

-- name: exception_add :one
-- Take callbacks from a network without a right signature for a while.
INSERT INTO callback_exceptions (tenant_id, connection_id, network, ends_at, reason, created_by)
VALUES ($1, $2, $3, now() + $4 * interval '1 minute', $5, $6)
RETURNING id, connection_id, network, ends_at, reason, created_by, created_at;

-- name: exceptions :many
-- Networks taken unsigned, of one connection or all; those that are over only when `$3`.
SELECT id, connection_id, network, ends_at, reason, created_by, created_at FROM callback_exceptions
WHERE tenant_id = $1 AND ($2::uuid IS NULL OR connection_id = $2) AND ($3::boolean OR ends_at > now()) ORDER BY id DESC LIMIT 1000;

-- name: exception_end :value
-- End an exception now.
UPDATE callback_exceptions SET ends_at = least(ends_at, now()) WHERE tenant_id = $1 AND id = $2 RETURNING id;

-- name: inbound_add :value
-- Keep what somebody wrote.
INSERT INTO inbound_messages (tenant_id, channel, connection_id, sender_id, contact_id, address, number, text, media_count, word, is_flagged, reply, provider_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING id;

-- name: answered_lately :value
-- Whether somebody was answered to a word within `$5` seconds.
SELECT EXISTS (SELECT FROM inbound_messages WHERE tenant_id = $1 AND channel = $2 AND address = $3 AND word = $4 AND reply <> ''
               AND received_at > now() - $5 * interval '1 second');

-- name: inbound_page :many
-- What people wrote, newest first, before `$2`; flagged ones only, or of one address.
SELECT id, channel, address, number, contact_id, sender_id, text, media_count, word, is_flagged, reply, received_at FROM inbound_messages
WHERE tenant_id = $1 AND id < $2 AND ($4::boolean IS NOT TRUE OR is_flagged) AND ($5::text IS NULL OR (channel = $6 AND address = $5))
ORDER BY id DESC LIMIT $3;

-- name: inbound_of_person :many
-- What a person wrote after `$5`, at most `$6`: under contacts they were (`$2`) or from addresses they have (`$3`, `$4`).
SELECT id, channel, address, number, text, media_count, word, reply, received_at FROM inbound_messages
WHERE tenant_id = $1 AND id = ANY (ARRAY(
  SELECT i.id FROM unnest($2::uuid[]) t(contact_id) CROSS JOIN LATERAL (
    SELECT id FROM inbound_messages WHERE tenant_id = $1 AND contact_id = t.contact_id AND id > $5 ORDER BY id LIMIT $6) i
  UNION
  SELECT i.id FROM unnest($3::text[], $4::text[]) t(channel, address) CROSS JOIN LATERAL (
    SELECT id FROM inbound_messages WHERE tenant_id = $1 AND channel = t.channel AND address = t.address AND id > $5 ORDER BY id LIMIT $6) i
  ORDER BY id LIMIT $6)) ORDER BY id;

-- name: forget_inbound :run
-- Delete what addresses wrote.
DELETE FROM inbound_messages WHERE tenant_id = $1 AND (address = ANY ($2::text[]) OR contact_id = ANY ($3::uuid[]));

-- name: events_purge :run
-- Drop callbacks older than `$1` days, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM webhook_events WHERE ctid = ANY (ARRAY(SELECT ctid FROM webhook_events WHERE received_at < now() - $1 * interval '1 day' LIMIT $2));

-- name: refusals_purge :run
-- Drop counts of refusals older than `$1` days, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM webhook_refusals WHERE ctid = ANY (ARRAY(SELECT ctid FROM webhook_refusals WHERE minute < now() - $1 * interval '1 day' LIMIT $2));

-- name: inbound_purge :run
-- Drop what people wrote more than `$1` days ago, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM inbound_messages WHERE ctid = ANY (ARRAY(SELECT ctid FROM inbound_messages WHERE received_at < now() - $1 * interval '1 day' LIMIT $2));

-- name: exceptions_purge :run
-- Drop exceptions that ended more than `$1` days ago, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM callback_exceptions WHERE ctid = ANY (ARRAY(SELECT ctid FROM callback_exceptions WHERE ends_at < now() - $1 * interval '1 day' LIMIT $2));
