-- Statements of tracking. Kinds are literals: 1 opening, 2 click. Link 0: any.

-- name: switches_of :many
-- What a tenant, a sender and a campaign want noticed; those without a row are missing.
SELECT scope, opens, clicks, transactional FROM tracking_switches
WHERE tenant_id = $1 AND ((scope = 'tenant' AND scope_id = $1) OR (scope = 'sender' AND scope_id = $2) OR (scope = 'campaign' AND scope_id = $3));

-- name: switch_get :one
-- What one scope wants noticed.
SELECT opens, clicks, transactional, changed_by, changed_at FROM tracking_switches WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3;

-- name: switch_keep :one
-- Say what one scope wants noticed.
INSERT INTO tracking_switches (tenant_id, scope, scope_id, opens, clicks, transactional, changed_by) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant_id, scope, scope_id) DO UPDATE
SET opens = excluded.opens, clicks = excluded.clicks, transactional = excluded.transactional, changed_by = excluded.changed_by, changed_at = now()
RETURNING opens, clicks, transactional, changed_by, changed_at;

-- name: campaign_facts :one
-- What tracking asks about a campaign.
SELECT name, sender_id, content_id, channel, state FROM campaigns WHERE tenant_id = $1 AND id = $2;

-- name: links_keep :run
-- Keep where links lead; what is there stays.
INSERT INTO tracked_links (tenant_id, key, url, parts)
SELECT $1, key, url, parts::jsonb FROM unnest($2::bigint[], $3::text[], $4::text[]) t(key, url, parts)
ON CONFLICT DO NOTHING;

-- name: link_get :value
-- Where a link leads: its parts.
SELECT parts::text FROM tracked_links WHERE tenant_id = $1 AND key = $2;

-- name: variables_of :one
-- The frozen variables of a message.
SELECT variables::text AS variables FROM messages WHERE tenant_id = $1 AND id = $2;

-- name: letter_of :one
-- What is needed to show a message again.
SELECT m.id, m.address, m.variables::text AS variables, m.content_id, m.attempted_at, m.due_at, l.channel, l.sender_id, l.message_class
FROM messages m JOIN lanes l ON l.tenant_id = m.tenant_id AND l.id = m.lane_id
WHERE m.tenant_id = $1 AND m.id = $2;

-- name: hits_take_in :run
-- Store what came in since the last flush: each row carries its tenant, out of its signed address.
INSERT INTO tracking_hits (tenant_id, message_id, at, kind, link, machine, n)
SELECT tenant_id, message_id, clock_timestamp() - age_s * interval '1 second', kind, link, machine, n
FROM unnest($1::uuid[], $2::uuid[], $3::float8[], $4::smallint[], $5::bigint[], $6::text[], $7::int[]) t(tenant_id, message_id, age_s, kind, link, machine, n);

-- name: hits_tenants :many
-- Tenants with hits that have waited `$1` seconds.
-- tenant: none, because it is the directory of the loop that judges them
SELECT t.id AS tenant_id FROM tenants t
WHERE EXISTS (SELECT 1 FROM tracking_hits h WHERE h.tenant_id = t.id AND h.at < clock_timestamp() - $1 * interval '1 second');

-- name: hits_lock :value
-- Whether this process is the one that judges a tenant's hits now.
SELECT pg_try_advisory_xact_lock(hashtextextended('outrider tracking ' || $1::uuid::text, 0));

-- name: hits_take :many
-- Take every waiting hit of the messages whose first one has waited `$2` seconds.
WITH due AS MATERIALIZED (
  SELECT DISTINCT message_id FROM (
    SELECT message_id FROM tracking_hits WHERE tenant_id = $1 AND at < clock_timestamp() - $2 * interval '1 second' ORDER BY at LIMIT $3) oldest
)
DELETE FROM tracking_hits h USING due d WHERE h.tenant_id = $1 AND h.message_id = d.message_id
RETURNING h.message_id, h.at, h.kind, h.link, h.machine, h.n;

-- name: hits_facts :many
-- The messages behind hits, and what may be noticed about them now. `$3`, `$4` are their least and greatest id.
SELECT m.id, m.lane_id, m.campaign_id, m.content_id, split_part(m.address, '@', 2) AS domain, m.finished_at,
       l.message_class = 'bulk' OR coalesce(t.transactional, false) AS is_noticed,
       coalesce(t.opens, true) AND coalesce(s.opens, true) AND coalesce(c.opens, true) AS opens,
       coalesce(t.clicks, true) AND coalesce(s.clicks, true) AND coalesce(c.clicks, true) AS clicks
FROM unnest($2::uuid[]) asked(id)
JOIN messages m ON m.tenant_id = $1 AND m.id = asked.id AND m.id >= $3 AND m.id <= $4
JOIN lanes l ON l.tenant_id = $1 AND l.id = m.lane_id
LEFT JOIN tracking_switches t ON t.tenant_id = $1 AND t.scope = 'tenant' AND t.scope_id = $1
LEFT JOIN tracking_switches s ON s.tenant_id = $1 AND s.scope = 'sender' AND s.scope_id = l.sender_id
LEFT JOIN tracking_switches c ON c.tenant_id = $1 AND c.scope = 'campaign' AND c.scope_id = m.campaign_id;

-- name: responses_keep :many
-- Add to what is known per message; tells which rows are new.
INSERT INTO message_responses AS r (tenant_id, message_id, kind, link, is_machine, first_at, last_at, hits, machine)
SELECT $1, message_id, kind, link, is_machine, first_at, last_at, hits, machine
FROM unnest($2::uuid[], $3::smallint[], $4::bigint[], $5::boolean[], $6::timestamptz[], $7::timestamptz[], $8::int[], $9::text[])
     t(message_id, kind, link, is_machine, first_at, last_at, hits, machine)
ON CONFLICT (tenant_id, message_id, kind, link, is_machine) DO UPDATE
SET hits = least(r.hits::bigint + excluded.hits, 2147483647), last_at = greatest(r.last_at, excluded.last_at), first_at = least(r.first_at, excluded.first_at)
RETURNING message_id, kind, link, is_machine, first_at, machine, xmax = 0 AS is_first;

-- name: counts_add :run
-- Add to the sums, in the order of their key.
INSERT INTO response_counts AS r (tenant_id, lane_id, facet, key, kind, is_machine, hits, messages)
SELECT $1, lane_id, facet, key, kind, is_machine, hits, messages
FROM unnest($2::int[], $3::text[], $4::text[], $5::smallint[], $6::boolean[], $7::bigint[], $8::bigint[]) t(lane_id, facet, key, kind, is_machine, hits, messages)
ORDER BY lane_id, facet, key, kind, is_machine
ON CONFLICT (tenant_id, lane_id, facet, key, kind, is_machine) DO UPDATE SET hits = r.hits + excluded.hits, messages = r.messages + excluded.messages;

-- name: urls_of :many
-- Links as people wrote them.
SELECT key, url FROM tracked_links WHERE tenant_id = $1 AND key = ANY($2::bigint[]);

-- name: campaign_lanes :many
-- The lanes of a campaign.
SELECT id FROM lanes WHERE tenant_id = $1 AND campaign_id = $2;

-- name: totals :many
-- Responses of lanes in all.
SELECT kind, is_machine, sum(hits)::bigint AS hits, sum(messages)::bigint AS messages FROM response_counts
WHERE tenant_id = $1 AND lane_id = ANY($2::int[]) AND facet = 'hour' GROUP BY 1, 2;

-- name: by_link :many
-- Clicks of lanes by link, the most followed by people first; `$3`, `$4` is where the page before ended.
SELECT * FROM (
  SELECT c.key, l.url, coalesce(sum(c.messages) FILTER (WHERE NOT is_machine), 0)::bigint AS people, coalesce(sum(c.hits) FILTER (WHERE NOT is_machine), 0)::bigint AS hits,
         coalesce(sum(c.messages) FILTER (WHERE is_machine), 0)::bigint AS machines, coalesce(sum(c.hits) FILTER (WHERE is_machine), 0)::bigint AS machine_hits
  FROM response_counts c LEFT JOIN tracked_links l ON l.tenant_id = $1 AND l.key = c.key::bigint
  WHERE c.tenant_id = $1 AND c.lane_id = ANY($2::int[]) AND c.facet = 'link' GROUP BY 1, 2) links
WHERE (-people, key) > (-$3::bigint, $4::text) ORDER BY people DESC, key LIMIT $5;

-- name: by_domain :many
-- Messages, openings and clicks of a campaign by the recipients' domain, the one with most messages first. Reads every
-- message of the campaign once.
SELECT * FROM (
  SELECT coalesce(s.domain, r.key) AS domain, coalesce(s.sent, 0)::bigint AS sent, r.*
  FROM (SELECT split_part(address, '@', 2) AS domain, count(*) FILTER (WHERE state IN ('sent', 'delivered', 'bounced', 'uncertain')) AS sent
        FROM messages WHERE tenant_id = $1 AND campaign_id = $3 GROUP BY 1) s
  FULL JOIN (SELECT key, coalesce(sum(messages) FILTER (WHERE kind = 1 AND NOT is_machine), 0)::bigint AS opened,
                    coalesce(sum(messages) FILTER (WHERE kind = 2 AND NOT is_machine), 0)::bigint AS clicked,
                    coalesce(sum(messages) FILTER (WHERE kind = 1 AND is_machine), 0)::bigint AS machine_opened,
                    coalesce(sum(messages) FILTER (WHERE kind = 2 AND is_machine), 0)::bigint AS machine_clicked
             FROM response_counts WHERE tenant_id = $1 AND lane_id = ANY($2::int[]) AND facet = 'domain' GROUP BY 1) r ON r.key = s.domain) domains
WHERE (-sent, domain) > (-$4::bigint, $5::text) ORDER BY sent DESC, domain LIMIT $6;

-- name: by_content :many
-- Openings and clicks of a campaign by content: what an A/B test compares.
SELECT key::uuid AS content_id, coalesce(sum(messages) FILTER (WHERE kind = 1 AND NOT is_machine), 0)::bigint AS opened,
       coalesce(sum(messages) FILTER (WHERE kind = 2 AND NOT is_machine), 0)::bigint AS clicked,
       coalesce(sum(messages) FILTER (WHERE kind = 1 AND is_machine), 0)::bigint AS machine_opened,
       coalesce(sum(messages) FILTER (WHERE kind = 2 AND is_machine), 0)::bigint AS machine_clicked
FROM response_counts WHERE tenant_id = $1 AND lane_id = ANY($2::int[]) AND facet = 'content' GROUP BY 1 ORDER BY 1;

-- name: by_hour :many
-- Sent, opened and clicked by hour, oldest first, after `$3` and before `$4`; `$2` null: every lane of the tenant.
-- A report that comes later takes one of `sent` and adds one of what became of it, in its own hour: what went counts, whatever it is by now.
SELECT hour, greatest(coalesce(sum(n) FILTER (WHERE what = 'sent'), 0), 0)::bigint AS sent, coalesce(sum(n) FILTER (WHERE what = '1 false'), 0)::bigint AS opened,
       coalesce(sum(n) FILTER (WHERE what = '2 false'), 0)::bigint AS clicked, coalesce(sum(n) FILTER (WHERE what = '1 true'), 0)::bigint AS machine_opened,
       coalesce(sum(n) FILTER (WHERE what = '2 true'), 0)::bigint AS machine_clicked
FROM (
  SELECT hour, 'sent' AS what, n FROM rollups
  WHERE tenant_id = $1 AND ($2::int[] IS NULL OR lane_id = ANY($2)) AND state IN ('sent', 'delivered', 'bounced', 'uncertain')
  UNION ALL SELECT hour, 'sent', n FROM rollup_deltas
  WHERE tenant_id = $1 AND ($2::int[] IS NULL OR lane_id = ANY($2)) AND state IN ('sent', 'delivered', 'bounced', 'uncertain')
  UNION ALL SELECT key::timestamptz, kind || ' ' || is_machine::text, messages FROM response_counts
  WHERE tenant_id = $1 AND ($2::int[] IS NULL OR lane_id = ANY($2)) AND facet = 'hour') t
WHERE hour > $3 AND hour < $4 GROUP BY hour ORDER BY hour LIMIT $5;

-- name: responses_of :many
-- What is known of one message.
SELECT r.kind, r.link, l.url, r.is_machine, r.machine, r.first_at, r.last_at, r.hits FROM message_responses r
LEFT JOIN tracked_links l ON l.tenant_id = r.tenant_id AND l.key = r.link
WHERE r.tenant_id = $1 AND r.message_id = $2 ORDER BY r.first_at, r.kind, r.link LIMIT 1000;

-- name: responses_of_messages :many
-- What is known of some messages (`$2`), the first 1,000 of each: who opened, and which links they followed.
SELECT t.id AS message_id, r.kind, r.url, r.is_machine, r.machine, r.first_at, r.last_at, r.hits FROM unnest($2::uuid[]) t(id) CROSS JOIN LATERAL (
  SELECT x.kind, l.url, x.link, x.is_machine, x.machine, x.first_at, x.last_at, x.hits FROM message_responses x
  LEFT JOIN tracked_links l ON l.tenant_id = x.tenant_id AND l.key = x.link
  WHERE x.tenant_id = $1 AND x.message_id = t.id ORDER BY x.first_at, x.kind, x.link LIMIT 1000) r
ORDER BY t.id, r.first_at, r.kind, r.link;

-- name: responses_purge :run
-- Drop what is known of messages older than `$1` days, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM message_responses r WHERE ctid = ANY (ARRAY(
  SELECT x.ctid FROM tenants t CROSS JOIN LATERAL (
    SELECT m.ctid FROM message_responses m
    WHERE m.tenant_id = t.id
      AND m.message_id < (lpad(to_hex((extract(epoch FROM now() - $1 * interval '1 day') * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
    ORDER BY m.message_id LIMIT $2) x LIMIT $2));

-- name: counts_purge :run
-- Drop sums by hour older than `$1` days of lanes without campaign, `$2` at a time; a campaign keeps its results.
-- tenant: none, because retention is the installation's
DELETE FROM response_counts WHERE ctid = ANY (ARRAY(
  SELECT c.ctid FROM response_counts c JOIN lanes l ON l.tenant_id = c.tenant_id AND l.id = c.lane_id
  WHERE c.facet = 'hour' AND l.campaign_id IS NULL AND c.key::timestamptz < now() - $1 * interval '1 day' LIMIT $2));

-- name: web_version_get :one
-- A campaign's public page.
SELECT code, variables::text AS variables, created_by, created_at FROM web_versions WHERE tenant_id = $1 AND campaign_id = $2;

-- name: web_version_keep :one
-- Publish a campaign's page, or give it other values; the address stays until it is withdrawn.
INSERT INTO web_versions (tenant_id, campaign_id, code, variables, created_by) VALUES ($1, $2, $3, $4::text::jsonb, $5)
ON CONFLICT (tenant_id, campaign_id) DO UPDATE SET variables = excluded.variables
RETURNING code, variables::text AS variables, created_by, created_at;

-- name: web_version_drop :value
-- Withdraw a campaign's page.
DELETE FROM web_versions WHERE tenant_id = $1 AND campaign_id = $2 RETURNING campaign_id;
