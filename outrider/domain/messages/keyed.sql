-- Requests at providers that know them again by a key: which messages went together, in which order, until when.

-- name: keep :run
-- Write down the messages of a request, in their order, before it is made. A message's last request counts.
INSERT INTO keyed_requests (tenant_id, message_id, key, connection_id, place, places, token, ends_at)
SELECT $1, d.id, $2, $3, d.place - 1, cardinality($4::uuid[]), $5, now() + $6 * interval '1 second'
FROM unnest($4::uuid[]) WITH ORDINALITY d(id, place)
ON CONFLICT (tenant_id, message_id) DO UPDATE SET key = excluded.key, connection_id = excluded.connection_id, place = excluded.place,
  places = excluded.places, token = excluded.token, made_at = now(), due_at = now(), ends_at = excluded.ends_at, tries = 0, taken_until = NULL;

-- name: forget :run
-- A request that did not leave is none: only the one of this attempt, an earlier one may have been taken.
DELETE FROM keyed_requests k USING unnest($2::uuid[], $3::bigint[]) d(id, token)
WHERE k.tenant_id = $1 AND k.message_id = d.id AND k.token = d.token;

-- name: forget_all :run
-- Messages that go again by themselves are no longer part of the request they went in, which is repeated as a whole or not at all.
DELETE FROM keyed_requests WHERE tenant_id = $1 AND message_id = ANY ($2::uuid[]);

-- name: made_under :many
-- Which messages, given with the tokens of their leases, had a request written down under these that can still be repeated.
SELECT k.message_id, k.key FROM keyed_requests k JOIN unnest($2::uuid[], $3::bigint[]) d(id, token) ON k.message_id = d.id AND k.token = d.token
WHERE k.tenant_id = $1 AND k.ends_at > now();

-- name: together :many
-- The messages of requests, by their keys.
SELECT key, array_agg(message_id) AS ids FROM keyed_requests WHERE tenant_id = $1 AND key = ANY ($2::text[]) GROUP BY key;

-- name: tenants_due :many
-- Tenants with uncertain messages whose request is to be repeated now.
-- tenant: none, because it is the directory of the loop
SELECT DISTINCT u.tenant_id FROM uncertain_messages u JOIN keyed_requests k ON k.tenant_id = u.tenant_id AND k.message_id = u.message_id
WHERE k.due_at <= now() AND k.ends_at > now();

-- name: take_due :many
-- Take requests of a tenant that are to be repeated, oldest first, for a while: who dies with one leaves it to the next. Whole
-- ones: of one of whose messages somebody else holds the row, perhaps to send it again by itself, nothing is taken.
WITH due AS (
  SELECT k.key, min(k.made_at) AS made_at
  FROM uncertain_messages u JOIN keyed_requests k ON k.tenant_id = u.tenant_id AND k.message_id = u.message_id
  WHERE u.tenant_id = $1 AND k.due_at <= now() AND k.ends_at > now()
  GROUP BY k.key ORDER BY 2 LIMIT $2
), locked AS (
  SELECT k.message_id, k.key FROM keyed_requests k JOIN due USING (key) WHERE k.tenant_id = $1 ORDER BY k.message_id FOR UPDATE OF k SKIP LOCKED
), whole AS (
  SELECT l.key FROM locked l GROUP BY l.key
  HAVING count(*) = (SELECT count(*) FROM keyed_requests x WHERE x.tenant_id = $1 AND x.key = l.key)
), taken AS (
  UPDATE keyed_requests k SET due_at = now() + $3 * interval '1 second', taken_until = now() + $3 * interval '1 second', tries = k.tries + 1
  FROM locked l JOIN whole w ON w.key = l.key WHERE k.tenant_id = $1 AND k.message_id = l.message_id AND k.due_at <= now()
  RETURNING k.key
)
SELECT key FROM taken GROUP BY key;

-- name: decide :many
-- Hold the requests of messages about which somebody decides, so that nobody takes them meanwhile; which of them are being
-- repeated at this moment.
SELECT message_id, coalesce(taken_until > now(), false) AS is_taken FROM keyed_requests WHERE tenant_id = $1 AND message_id = ANY ($2::uuid[])
ORDER BY message_id FOR UPDATE;

-- name: members :many
-- The messages of a request as they stand, in its order. `is_uncertain`: nobody else has them; `is_changed`: since then the
-- connection was changed, so that its account may be another; `is_withdrawn`: its campaign was cancelled since.
SELECT k.message_id, k.place, k.places, k.connection_id, k.tries, m.state, m.provider_id, m.contact_id, m.content_id, m.address, m.purpose,
       m.variables::text AS variables, m.attempts, coalesce(m.attempted_at, k.made_at) AS attempted_at, coalesce(m.expires_at < now(), false) AS is_over,
       u.message_id IS NOT NULL AS is_uncertain, u.lane_id, l.channel, l.sender_id, l.campaign_id, l.message_class,
       EXISTS (SELECT FROM connections c WHERE c.tenant_id = $1 AND c.id = k.connection_id
               AND c.updated_at > greatest(c.created_at, k.made_at - interval '10 seconds')) AS is_changed,
       EXISTS (SELECT FROM campaigns c WHERE c.tenant_id = $1 AND c.id = m.campaign_id AND c.state = 'cancelled') AS is_withdrawn
FROM keyed_requests k
JOIN messages m ON m.tenant_id = k.tenant_id AND m.id = k.message_id
LEFT JOIN uncertain_messages u ON u.tenant_id = k.tenant_id AND u.message_id = k.message_id
LEFT JOIN lanes l ON l.tenant_id = u.tenant_id AND l.id = u.lane_id
WHERE k.tenant_id = $1 AND k.key = $2 ORDER BY k.place;

-- name: later :run
-- A request to be repeated in a while; until then it is nobody's.
UPDATE keyed_requests SET due_at = now() + $3 * interval '1 second', taken_until = NULL WHERE tenant_id = $1 AND key = $2;

-- name: end :run
-- A request that is not repeated any more.
UPDATE keyed_requests SET ends_at = now(), taken_until = NULL WHERE tenant_id = $1 AND key = $2 AND ends_at > now();

-- name: keyed_requests_purge :run
-- Drop requests older than `$1` hours, at most `$2`, whose message is neither open nor uncertain.
-- tenant: none, because retention goes over every tenant's rows in one pass
DELETE FROM keyed_requests WHERE ctid = ANY (ARRAY(
  SELECT k.ctid FROM keyed_requests k
  WHERE k.made_at < now() - $1 * interval '1 hour'
    AND NOT EXISTS (SELECT FROM queue q WHERE q.tenant_id = k.tenant_id AND q.message_id = k.message_id)
    AND NOT EXISTS (SELECT FROM uncertain_messages u WHERE u.tenant_id = k.tenant_id AND u.message_id = k.message_id)
  ORDER BY k.made_at LIMIT $2 FOR UPDATE OF k SKIP LOCKED));
