-- Statements of paces: rates of destinations with their buckets and turns.

-- name: destination_limited :many
-- Which of some destinations have a rate, a tenant's own or the installation's, and whether their bucket is there already.
SELECT DISTINCT r.destination, EXISTS (SELECT FROM destination_buckets b
                                       WHERE b.tenant_id = $1 AND b.channel = $2 AND b.destination = r.destination) AS has_bucket
FROM destination_rates r
WHERE r.tenant_id IN ($1, '00000000-0000-0000-0000-000000000000') AND r.channel = $2 AND r.destination = ANY ($3::text[]);

-- name: destination_open :run
-- Make the buckets of destinations, full; in order, so that two who do it at once wait and do not embrace.
INSERT INTO destination_buckets (tenant_id, channel, destination, tokens)
SELECT $1, $2, d.destination, r.cap
FROM (SELECT destination FROM unnest($3::text[]) AS d(destination) ORDER BY 1) d
CROSS JOIN LATERAL (SELECT cap FROM destination_rates x
                    WHERE x.tenant_id IN ($1, '00000000-0000-0000-0000-000000000000') AND x.channel = $2 AND x.destination = d.destination
                    ORDER BY x.tenant_id DESC LIMIT 1) r
ON CONFLICT DO NOTHING;

-- name: destination_lock :many
-- What destinations may get now, locked in their order: a tenant's own rate goes before the installation's. With up to when this
-- lane's (`$4`) turns are given out, how many other lanes have turns to come, and up to when transactional ones have.
SELECT b.destination, r.rate, r.cap, b.tokens, b.at_s, n.now_s, coalesce(t.next_s, 0) AS next_s, o.others, o.urgent_s
FROM (SELECT extract(epoch FROM clock_timestamp())::float8 AS now_s OFFSET 0) n
CROSS JOIN destination_buckets b
CROSS JOIN LATERAL (SELECT rate, cap FROM destination_rates x
                    WHERE x.tenant_id IN ($1, '00000000-0000-0000-0000-000000000000') AND x.channel = $2 AND x.destination = b.destination
                    ORDER BY x.tenant_id DESC LIMIT 1) r
LEFT JOIN destination_turns t ON t.tenant_id = $1 AND t.channel = $2 AND t.destination = b.destination AND t.lane_id = $4
CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE x.next_s > n.now_s) AS others,
                           coalesce(max(x.next_s) FILTER (WHERE l.message_class = 'transactional'), 0) AS urgent_s
                    FROM destination_turns x JOIN lanes l ON l.tenant_id = $1 AND l.id = x.lane_id
                    WHERE x.tenant_id = $1 AND x.channel = $2 AND x.destination = b.destination AND x.lane_id <> $4
                      AND x.next_s > n.now_s - 1) o
WHERE b.tenant_id = $1 AND b.channel = $2 AND b.destination = ANY ($3::text[])
ORDER BY b.destination FOR UPDATE OF b;

-- name: destination_write :run
-- What is left in locked buckets.
UPDATE destination_buckets b SET tokens = d.tokens, at_s = d.at_s
FROM unnest($3::text[], $4::float8[], $5::float8[]) AS d(destination, tokens, at_s)
WHERE b.tenant_id = $1 AND b.channel = $2 AND b.destination = d.destination;

-- name: destination_turns_set :run
-- Up to when turns of a lane (`$3`) are given out now; the lane's lock is held.
INSERT INTO destination_turns (tenant_id, channel, destination, lane_id, next_s)
SELECT $1, $2, d.destination, $3, d.next_s FROM unnest($4::text[], $5::float8[]) AS d(destination, next_s)
ON CONFLICT (tenant_id, channel, destination, lane_id) DO UPDATE SET next_s = excluded.next_s;

-- name: destination_turns_forget :many
-- Turns that are given out hold no longer: the rate has changed. Gives whose they were.
-- tenant: none, because a rate of the installation holds for every tenant (`$1` null)
DELETE FROM destination_turns WHERE ($1::uuid IS NULL OR tenant_id = $1) AND channel = $2 AND destination = $3 RETURNING tenant_id;

-- name: destination_turns_purge :run
-- Drop turns that were over `$1` hours ago, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM destination_turns WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM destination_turns WHERE next_s < extract(epoch FROM now()) - $1 * 3600 LIMIT $2));

-- name: destination_buckets_purge :run
-- Drop buckets that nothing was taken from for `$1` hours, `$2` at a time: a new one starts full as they are by then.
-- tenant: none, because retention is the installation's
DELETE FROM destination_buckets WHERE ctid = ANY (ARRAY(
  SELECT b.ctid FROM destination_buckets b
  WHERE b.at_s < extract(epoch FROM now()) - $1 * 3600
    AND NOT EXISTS (SELECT FROM destination_rates r WHERE r.tenant_id IN (b.tenant_id, '00000000-0000-0000-0000-000000000000')
                    AND r.channel = b.channel AND r.destination = b.destination AND r.cap > r.rate * $1 * 3600)
  LIMIT $2 FOR UPDATE SKIP LOCKED));

-- name: destination_rate_set :one
-- Make or change the rate of a destination.
INSERT INTO destination_rates (tenant_id, channel, destination, rate, cap) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, channel, destination) DO UPDATE SET rate = $4, cap = $5, updated_at = now()
RETURNING tenant_id, channel, destination, rate, cap, updated_at;

-- name: destination_rate_clear :one
-- Take the rate of a destination away.
DELETE FROM destination_rates WHERE tenant_id = $1 AND channel = $2 AND destination = $3
RETURNING tenant_id, channel, destination, rate, cap, updated_at;

-- name: destination_rates_count :value
-- How many rates a tenant has.
SELECT count(*) FROM destination_rates WHERE tenant_id = $1;

-- name: destination_rates_of :many
-- The rates that hold for a tenant: its own, and the installation's where it has none.
SELECT DISTINCT ON (channel, destination) tenant_id, channel, destination, rate, cap, updated_at FROM destination_rates
WHERE tenant_id IN ($1, '00000000-0000-0000-0000-000000000000') ORDER BY channel, destination, tenant_id DESC;
