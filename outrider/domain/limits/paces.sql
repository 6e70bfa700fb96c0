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
-- How many rates a tenant has beside that of a destination.
SELECT count(*) FROM destination_rates WHERE tenant_id = $1 AND (channel, destination) <> ($2, $3);

-- name: destination_rates_of :many
-- The rates that hold for a tenant: its own, and the installation's where it has none.
SELECT DISTINCT ON (channel, destination) tenant_id, channel, destination, rate, cap, updated_at FROM destination_rates
WHERE tenant_id IN ($1, '00000000-0000-0000-0000-000000000000') ORDER BY channel, destination, tenant_id DESC;

-- name: account_open :run
-- The buckets of a connection's account, full, where there are none yet: one for each rate that a connection to it has now, with
-- the largest burst of those that have this rate or a slower one, so that a fast one with a tiny burst keeps no other to that.
-- tenant: none, because the account may be several tenants'; its rows are the installation's
INSERT INTO account_buckets (tenant_id, account, rate, cap, tokens)
SELECT '00000000-0000-0000-0000-000000000000', r.account, r.rate, r.cap, r.cap
FROM (SELECT o.account, b.rate, max(max(b.cap)) OVER (ORDER BY b.rate) AS cap
      FROM connections c JOIN connections o ON o.account = c.account JOIN buckets b ON b.tenant_id = o.tenant_id AND b.scope = 'connection' AND b.scope_id = o.id
      WHERE c.tenant_id = $1 AND c.id = $2 GROUP BY o.account, b.rate) r
ORDER BY r.rate ON CONFLICT DO NOTHING;

-- name: account_take :value
-- Take min(asked, there) tokens of a connection's account, at its own rate and all faster ones that a connection has now, which are
-- locked in their order; nothing is said where the account is not known. Refills by the clock read inside the statement.
-- tenant: none, because the account may be several tenants'; its rows are the installation's
WITH rates AS MATERIALIZED (
  SELECT o.account, b.rate, max(max(b.cap)) OVER (ORDER BY b.rate) AS cap
  FROM connections c JOIN connections o ON o.account = c.account JOIN buckets b ON b.tenant_id = o.tenant_id AND b.scope = 'connection' AND b.scope_id = o.id
  WHERE c.tenant_id = $1 AND c.id = $2 GROUP BY o.account, b.rate
), locked AS MATERIALIZED (
  SELECT a.account, a.rate, a.cap, a.tokens, a.at_s
  FROM rates r JOIN buckets b ON b.tenant_id = $1 AND b.scope = 'connection' AND b.scope_id = $2 AND r.rate >= b.rate
  JOIN account_buckets a ON a.tenant_id = '00000000-0000-0000-0000-000000000000' AND a.account = r.account AND a.rate = r.rate AND a.cap = r.cap
  ORDER BY a.rate, a.cap FOR UPDATE OF a
), there AS MATERIALIZED (
  SELECT l.account, l.rate, l.cap, least(l.cap, l.tokens + l.rate * greatest(0, n.t - l.at_s)) AS tokens, greatest(l.at_s, n.t) AS at_s
  FROM locked l CROSS JOIN (SELECT extract(epoch FROM clock_timestamp())::float8 AS t OFFSET 0) n
), granted AS MATERIALIZED (
  SELECT greatest(0, least($3::float8, floor(min(tokens) + 1e-6)))::bigint AS n FROM there HAVING count(*) > 0
), written AS (
  UPDATE account_buckets a SET tokens = greatest(0, t.tokens - g.n), at_s = t.at_s FROM there t CROSS JOIN granted g
  WHERE a.tenant_id = '00000000-0000-0000-0000-000000000000' AND a.account = t.account AND a.rate = t.rate AND a.cap = t.cap
)
SELECT n FROM granted;

-- name: account_return :run
-- Give back what was taken of a connection's account and not used; its rows are locked in the order in which they are taken from.
-- tenant: none, because the account may be several tenants'; its rows are the installation's
WITH rates AS MATERIALIZED (
  SELECT o.account, b.rate, max(max(b.cap)) OVER (ORDER BY b.rate) AS cap
  FROM connections c JOIN connections o ON o.account = c.account JOIN buckets b ON b.tenant_id = o.tenant_id AND b.scope = 'connection' AND b.scope_id = o.id
  WHERE c.tenant_id = $1 AND c.id = $2 GROUP BY o.account, b.rate
), locked AS MATERIALIZED (
  SELECT a.account, a.rate, a.cap
  FROM rates r JOIN buckets b ON b.tenant_id = $1 AND b.scope = 'connection' AND b.scope_id = $2 AND r.rate >= b.rate
  JOIN account_buckets a ON a.tenant_id = '00000000-0000-0000-0000-000000000000' AND a.account = r.account AND a.rate = r.rate AND a.cap = r.cap
  ORDER BY a.rate, a.cap FOR UPDATE OF a
)
UPDATE account_buckets a SET tokens = least(a.cap, a.tokens + $3::float8) FROM locked l
WHERE a.tenant_id = '00000000-0000-0000-0000-000000000000' AND a.account = l.account AND a.rate = l.rate AND a.cap = l.cap;

-- name: room_look :one
-- What the buckets that pace a lane let go now, all together: of the campaign `$2`, the sender `$3`, the connection `$4` (null: it has
-- none) with its account, and the tenant. And in how many seconds they let go a slice: what comes together in `$5` seconds, but half a
-- burst and `$6` messages at most. Nothing is taken and nobody is locked: who takes is told what there really is.
-- tenant: none, because the account may be several tenants'; its rows are the installation's
SELECT floor(min(b.there))::bigint AS there,
       max((greatest(1, least(b.rate * $5::float8, b.cap / 2, $6::float8)) - b.there) / greatest(b.rate, 1e-9))::float8 AS wait_s
FROM (SELECT extract(epoch FROM clock_timestamp())::float8 AS t OFFSET 0) n
CROSS JOIN LATERAL (
  SELECT o.rate, o.cap, least(o.cap, o.tokens + o.rate * greatest(0, n.t - o.at_s)) AS there FROM buckets o
  WHERE o.tenant_id = $1 AND (o.scope, o.scope_id) IN (('campaign', $2::uuid), ('sender', $3::uuid), ('connection', $4::uuid), ('tenant', $1))
  UNION ALL
  SELECT a.rate, a.cap, least(a.cap, a.tokens + a.rate * greatest(0, n.t - a.at_s)) + 1e-6
  FROM (SELECT o.account, x.rate, max(max(x.cap)) OVER (ORDER BY x.rate) AS cap
        FROM connections c JOIN connections o ON o.account = c.account JOIN buckets x ON x.tenant_id = o.tenant_id AND x.scope = 'connection' AND x.scope_id = o.id
        WHERE c.tenant_id = $1 AND c.id = $4 GROUP BY o.account, x.rate) r
  JOIN buckets o ON o.tenant_id = $1 AND o.scope = 'connection' AND o.scope_id = $4 AND r.rate >= o.rate
  JOIN account_buckets a ON a.tenant_id = '00000000-0000-0000-0000-000000000000' AND a.account = r.account AND a.rate = r.rate AND a.cap = r.cap
) b;

-- name: account_turn :value
-- The next turn to make a request to an account, `$3` seconds after the one before it and not before `$4` seconds from now: in how
-- many seconds it is. None is further off than `$5` seconds.
INSERT INTO account_turns AS t (tenant_id, account, next_s)
VALUES ($1, $2, extract(epoch FROM clock_timestamp())::float8 + $4::float8 + $3::float8)
ON CONFLICT (tenant_id, account) DO UPDATE SET next_s = least(
  greatest(t.next_s, extract(epoch FROM clock_timestamp())::float8 + $4::float8) + $3::float8,
  extract(epoch FROM clock_timestamp())::float8 + greatest($4::float8, $5::float8) + $3::float8)
RETURNING next_s - $3::float8 - extract(epoch FROM clock_timestamp())::float8;

-- name: account_buckets_purge :run
-- Drop buckets of accounts that nothing was taken from for `$1` hours, `$2` at a time: a new one starts full as they are by then.
-- tenant: none, because retention is the installation's
DELETE FROM account_buckets WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM account_buckets WHERE at_s < extract(epoch FROM now()) - $1 * 3600 AND cap <= rate * $1 * 3600 LIMIT $2 FOR UPDATE SKIP LOCKED));

-- name: account_turns_purge :run
-- Drop turns that were over `$1` hours ago, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM account_turns WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM account_turns WHERE next_s < extract(epoch FROM now()) - $1 * 3600 LIMIT $2 FOR UPDATE SKIP LOCKED));

-- name: warm_up_lock :one
-- Lock the plan of a sender. For bulk (`$3`) also: how many transactional messages of the sender are ready (not counted beyond
-- a thousand), and whether it sends such at all.
SELECT w.tenant_id, w.sender_id, w.steps::text AS steps, w.state, w.step, w.starts_on, w.day_on, w.day_began_at, w.day_ends_at, w.day_sent,
       w.hour_ends_at, w.hour_sent, w.is_transactional_exempt, w.reserve_percent, w.most_bounces_percent, w.most_complaints_percent, w.note,
       clock_timestamp() AS now,
       CASE WHEN $3 THEN (SELECT count(*) FROM (SELECT 1 FROM lanes l
                          CROSS JOIN LATERAL (SELECT 1 FROM queue q WHERE q.tenant_id = $1 AND q.lane_id = l.id AND q.state = 0
                                              ORDER BY q.priority, q.due_at, q.message_id LIMIT 1000) q
                          WHERE l.tenant_id = $1 AND l.sender_id = $2 AND l.message_class = 'transactional' AND l.is_open LIMIT 1000) u)
            ELSE 0 END AS urgent,
       $3 AND EXISTS (SELECT FROM lanes l WHERE l.tenant_id = $1 AND l.sender_id = $2 AND l.message_class = 'transactional') AS has_urgent
FROM warm_ups w WHERE w.tenant_id = $1 AND w.sender_id = $2 AND w.state <> 'finished' FOR UPDATE OF w;

-- name: warm_up_write :run
-- Where a locked plan stands.
UPDATE warm_ups SET state = $3, step = $4, day_on = $5, day_began_at = $6, day_ends_at = $7, day_sent = $8, hour_ends_at = $9, hour_sent = $10,
  note = $11, finished_at = CASE WHEN $3 = 'finished' THEN coalesce(finished_at, now()) END
WHERE tenant_id = $1 AND sender_id = $2;

-- name: warm_up_count :run
-- Count attempts in a locked plan's day and hour, each under its lease token.
WITH counted AS (
  UPDATE warm_ups SET day_sent = day_sent + $3, hour_sent = hour_sent + $3 WHERE tenant_id = $1 AND sender_id = $2
)
INSERT INTO warm_up_sends (tenant_id, message_id, token, sender_id, day_on, hour_ends_at)
SELECT $1, id, $4, $2, $6, $7 FROM unnest($5::uuid[]) AS t(id);

-- name: warm_up_take_back :run
-- The attempts were not sent: they do not count, as long as the day or hour that they were counted in lasts. Plans in their order.
WITH gone AS (
  DELETE FROM warm_up_sends s USING unnest($2::uuid[], $3::bigint[]) AS d(id, token)
  WHERE s.tenant_id = $1 AND s.message_id = d.id AND s.token = d.token
  RETURNING s.sender_id, s.day_on, s.hour_ends_at
), locked AS MATERIALIZED (
  SELECT sender_id, day_on, hour_ends_at FROM warm_ups
  WHERE tenant_id = $1 AND sender_id IN (SELECT sender_id FROM gone) ORDER BY sender_id FOR UPDATE
), counts AS (
  SELECT l.sender_id, l.day_on, l.hour_ends_at, count(*) FILTER (WHERE g.day_on = l.day_on) AS of_day,
         count(*) FILTER (WHERE g.hour_ends_at = l.hour_ends_at) AS of_hour
  FROM locked l JOIN gone g ON g.sender_id = l.sender_id GROUP BY 1, 2, 3
)
UPDATE warm_ups w SET day_sent = greatest(0, w.day_sent - c.of_day),
  hour_sent = greatest(0, w.hour_sent - CASE WHEN w.hour_ends_at = c.hour_ends_at THEN c.of_hour ELSE 0 END)
FROM counts c WHERE w.tenant_id = $1 AND w.sender_id = c.sender_id AND w.day_on = c.day_on;

-- name: warm_up_health :one
-- What became of a sender's messages since a moment: what went out, what came back for good, who complained.
WITH counted AS (
  SELECT r.state, r.n, r.state = 'failed' AND r.code IN ('mailbox_unavailable', 'number_invalid', 'handset_unknown') AS is_refused
  FROM lanes l
  CROSS JOIN LATERAL (SELECT state, code, n FROM rollups WHERE tenant_id = $1 AND lane_id = l.id AND hour >= date_trunc('hour', $3::timestamptz)
                      UNION ALL
                      SELECT state, code, n FROM rollup_deltas WHERE tenant_id = $1 AND lane_id = l.id
                      AND hour >= date_trunc('hour', $3::timestamptz)) r
  WHERE l.tenant_id = $1 AND l.sender_id = $2
)
SELECT coalesce(sum(n) FILTER (WHERE state IN ('sent', 'delivered', 'bounced', 'uncertain') OR is_refused), 0)::bigint AS sent,
       coalesce(sum(n) FILTER (WHERE state = 'bounced' OR is_refused), 0)::bigint AS bounced,
       (SELECT count(*) FROM suppressions s
        WHERE s.tenant_id = $1 AND s.reason = 'complaint' AND s.created_at >= $3 AND s.address IS NOT NULL
          AND EXISTS (SELECT FROM messages m JOIN lanes l ON l.tenant_id = $1 AND l.id = m.lane_id
                      WHERE m.tenant_id = $1 AND m.address = s.address AND l.sender_id = $2)) AS complained
FROM counted;

-- name: warm_up_set :one
-- Give a sender a plan; what was counted today goes on to count.
INSERT INTO warm_ups AS w (tenant_id, sender_id, plan, steps, starts_on, day_on, day_began_at, day_ends_at, hour_ends_at,
                           is_transactional_exempt, reserve_percent, most_bounces_percent, most_complaints_percent)
VALUES ($1, $2, $3, $4::text::jsonb, $5, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (tenant_id, sender_id) DO UPDATE SET
  plan = $3, steps = $4::text::jsonb, starts_on = $5, state = 'running', step = 1, day_on = $5, day_began_at = $6, day_ends_at = $7,
  day_sent = CASE WHEN w.day_on = $5 THEN w.day_sent ELSE 0 END, is_transactional_exempt = $9, reserve_percent = $10,
  most_bounces_percent = $11, most_complaints_percent = $12, note = '', created_at = now(), finished_at = NULL
RETURNING sender_id;

-- name: warm_up_change :one
-- Change a plan that runs or rests.
UPDATE warm_ups SET plan = $3, steps = $4::text::jsonb, state = $5, step = $6, is_transactional_exempt = $7, reserve_percent = $8,
  most_bounces_percent = $9, most_complaints_percent = $10, note = '', finished_at = CASE WHEN $5 = 'finished' THEN now() END
WHERE tenant_id = $1 AND sender_id = $2 RETURNING sender_id;

-- name: warm_up_get :one
-- The plan of a sender, held for a change.
SELECT w.tenant_id, w.sender_id, w.plan, w.steps::text AS steps, w.state, w.step, w.starts_on, w.day_on, w.day_began_at, w.day_ends_at, w.day_sent,
       w.hour_ends_at, w.hour_sent, w.is_transactional_exempt, w.reserve_percent, w.most_bounces_percent, w.most_complaints_percent, w.note
FROM warm_ups w WHERE w.tenant_id = $1 AND w.sender_id = $2 FOR UPDATE OF w;

-- name: warm_ups_of :many
-- The plans of a tenant's senders, those that run first.
SELECT w.tenant_id, w.sender_id, s.name AS sender, w.plan, w.steps::text AS steps, w.starts_on, w.state, w.step, w.day_on, w.day_began_at,
       w.day_ends_at, w.day_sent, w.hour_ends_at, w.hour_sent, w.is_transactional_exempt, w.reserve_percent, w.most_bounces_percent,
       w.most_complaints_percent, w.note, w.created_at, w.finished_at
FROM warm_ups w JOIN senders s ON s.tenant_id = w.tenant_id AND s.id = w.sender_id
WHERE w.tenant_id = $1 AND ($2::uuid IS NULL OR w.sender_id = $2) ORDER BY w.finished_at NULLS FIRST, s.name LIMIT 1000;

-- name: warm_ups_with_room :many
-- Plans behind `$1`, `$2` in whose day or hour there is room and that hold something, `$3` at a time: with how many messages of their
-- senders are ready, and how many transactional ones are held, none counted beyond `$4`.
-- tenant: none, because one look serves every tenant
SELECT w.tenant_id, w.sender_id, w.steps::text AS steps, w.state, w.step, w.starts_on, w.day_on, w.day_began_at, w.day_ends_at, w.day_sent,
       w.hour_ends_at, CASE WHEN now() < w.hour_ends_at THEN w.hour_sent ELSE 0 END AS hour_sent, w.is_transactional_exempt, w.reserve_percent,
       w.most_bounces_percent, w.most_complaints_percent, w.note,
       EXISTS (SELECT FROM lanes l WHERE l.tenant_id = w.tenant_id AND l.sender_id = w.sender_id AND l.message_class = 'transactional') AS has_urgent,
       r.ready_urgent, r.ready_bulk, r.held_urgent
FROM warm_ups w
CROSS JOIN LATERAL (
  SELECT coalesce(sum(n.ready) FILTER (WHERE l.message_class = 'transactional'), 0)::bigint AS ready_urgent,
         coalesce(sum(n.ready) FILTER (WHERE l.message_class = 'bulk'), 0)::bigint AS ready_bulk,
         coalesce(sum(n.held) FILTER (WHERE l.message_class = 'transactional'), 0)::bigint AS held_urgent
  FROM lanes l
  CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM (SELECT 1 FROM queue q WHERE q.tenant_id = w.tenant_id AND q.lane_id = l.id AND q.state = 0
                                  ORDER BY q.priority, q.due_at, q.message_id LIMIT $4) c) AS ready,
           CASE WHEN l.message_class = 'transactional' THEN
             (SELECT count(*) FROM (SELECT 1 FROM queue q WHERE q.tenant_id = w.tenant_id AND q.lane_id = l.id AND q.state = 5 AND q.due_at > now()
                                    AND split_part(q.reason, ': ', 1) = 'warm_up' LIMIT $4) c) ELSE 0 END AS held) n
  WHERE l.tenant_id = w.tenant_id AND l.sender_id = w.sender_id AND l.is_open) r
WHERE w.state <> 'finished' AND now() BETWEEN w.day_began_at AND w.day_ends_at
  AND w.day_sent < (w.steps -> (w.step - 1) ->> 'per_day')::int AND (w.tenant_id, w.sender_id) > ($1, $2)
  AND EXISTS (SELECT FROM lanes l CROSS JOIN LATERAL (
                SELECT 1 FROM queue q WHERE q.tenant_id = w.tenant_id AND q.lane_id = l.id AND q.state = 5 AND q.due_at > now()
                AND split_part(q.reason, ': ', 1) = 'warm_up' LIMIT 1) h
              WHERE l.tenant_id = w.tenant_id AND l.sender_id = w.sender_id AND l.is_open)
ORDER BY w.tenant_id, w.sender_id LIMIT $3;

-- name: warm_up_states :many
-- How many plans run, rest, or have used up their day.
-- tenant: none, because metrics are the installation's
SELECT CASE WHEN now() < day_ends_at AND day_sent >= (steps -> (step - 1) ->> 'per_day')::int THEN 'used_up' ELSE state END AS state, count(*) AS n
FROM warm_ups WHERE state <> 'finished' GROUP BY 1;

-- name: warm_up_sends_purge :run
-- Drop what was counted more than `$1` hours ago, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM warm_up_sends WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM warm_up_sends WHERE at < now() - $1 * interval '1 hour' ORDER BY at LIMIT $2));

-- name: now :value
-- The database's clock.
-- tenant: none, because it names no table
SELECT clock_timestamp();

-- name: sources_note :run
-- Note who asked for texts, where the tenant limits how many one may ask for.
INSERT INTO message_sources (tenant_id, message_id, source, country, range)
SELECT $1, d.id, d.source, d.country, d.range
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) AS d(id, source, country, range)
WHERE EXISTS (SELECT FROM tenants t WHERE t.id = $1 AND coalesce(t.settings ->> 'sms_source_most', t.settings ->> 'sms_range_most') IS NOT NULL);

-- name: sources_purge :run
-- Drop what was noted more than `$1` hours ago, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM message_sources WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM message_sources WHERE at < now() - $1 * interval '1 hour' ORDER BY at LIMIT $2));
