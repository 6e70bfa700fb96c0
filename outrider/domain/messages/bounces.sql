-- Statements of soft bounces: counted once per message, judged by address.

-- name: soft_bounces_lock :run
-- Let whoever counts soft bounces of a tenant follow one another, so that the last of several is seen beside the others.
SELECT pg_advisory_xact_lock(hashtextextended('soft_bounces' || $1::uuid::text, 0));

-- name: soft_bounces_add :run
-- Note messages that came back for now; one that was noted before stays as it is.
INSERT INTO soft_bounces (tenant_id, message_id, channel, address, at, cause, detail)
SELECT $1, t.message_id, t.channel, t.address, coalesce(t.at, now()), t.cause, t.detail
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[]) t(message_id, channel, address, at, cause, detail)
ORDER BY t.message_id
ON CONFLICT (tenant_id, message_id) DO NOTHING;

-- name: soft_bounced_out :many
-- Which of the addresses came back `$4` times within `$5` days, on `$6` different days (UTC), with no delivery in between:
-- none reported, and none handed over that nobody sent back within `$7` days. `$8` is the least id of a message so old.
WITH counted AS MATERIALIZED (
  SELECT a.channel, a.address, b.at, b.detail
  FROM (SELECT DISTINCT channel, address FROM unnest($2::text[], $3::text[]) t(channel, address)) a
  CROSS JOIN LATERAL (SELECT at, detail FROM soft_bounces x WHERE x.tenant_id = $1 AND x.channel = a.channel AND x.address = a.address
                      AND NOT x.is_used AND x.at > now() - $5 * interval '1 day') b
), many AS MATERIALIZED (
  SELECT channel, address FROM counted GROUP BY 1, 2 HAVING count(*) >= $4
), since AS MATERIALIZED (
  SELECT m.channel, m.address,
         (SELECT max(d.finished_at) FROM messages d JOIN lanes l ON l.tenant_id = $1 AND l.id = d.lane_id AND l.channel = m.channel
          WHERE d.tenant_id = $1 AND d.address = m.address AND d.id >= $8
            AND (d.state = 'delivered' OR (d.state = 'sent' AND d.finished_at < now() - $7 * interval '1 day'))) AS delivered_at
  FROM many m
)
SELECT c.channel, c.address, count(*) AS n, count(DISTINCT (c.at AT TIME ZONE 'UTC')::date) AS days, min(c.at) AS first_at, max(c.at) AS last_at,
       (array_agg(c.detail ORDER BY c.at DESC))[1] AS detail, now() AS now
FROM since s JOIN counted c ON c.channel = s.channel AND c.address = s.address AND c.at > coalesce(s.delivered_at, '-infinity')
GROUP BY 1, 2 HAVING count(*) >= $4 AND count(DISTINCT (c.at AT TIME ZONE 'UTC')::date) >= $6 ORDER BY 1, 2;

-- name: soft_bounces_used :run
-- An entry was made of what came back from these addresses: it counts no more, also when its reports are told again.
UPDATE soft_bounces b SET is_used = true FROM unnest($2::text[], $3::text[]) t(channel, address)
WHERE b.tenant_id = $1 AND b.channel = t.channel AND b.address = t.address AND NOT b.is_used;

-- name: soft_bounces_of :many
-- What came back from the addresses of a contact, newest first.
SELECT b.message_id, b.channel, b.address, b.at, b.cause, b.detail, b.is_used
FROM addresses a CROSS JOIN LATERAL (SELECT * FROM soft_bounces x WHERE x.tenant_id = $1 AND x.channel = a.channel AND x.address = a.address) b
WHERE a.tenant_id = $1 AND a.contact_id = $2 ORDER BY b.at DESC LIMIT $3;

-- name: soft_bounces_forget :run
-- Delete that messages to somebody came back.
DELETE FROM soft_bounces WHERE tenant_id = $1 AND message_id = ANY ($2::uuid[]);

-- name: soft_bounces_purge :run
-- Drop what came back more than `$1` days ago, `$2` at a time: no tenant's policy looks so far back.
-- tenant: none, because retention is the installation's
DELETE FROM soft_bounces WHERE ctid = ANY (ARRAY(SELECT ctid FROM soft_bounces WHERE at < now() - $1 * interval '1 day' ORDER BY at LIMIT $2));

-- name: reached_at :many
-- Where messages were sent to; `$3`, `$4` are the least and greatest id.
SELECT m.id, l.channel, m.address FROM unnest($2::uuid[]) t(id)
JOIN messages m ON m.tenant_id = $1 AND m.id = t.id AND m.id >= $3 AND m.id <= $4
JOIN lanes l ON l.tenant_id = $1 AND l.id = m.lane_id;
