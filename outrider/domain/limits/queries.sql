-- name: switch_on :one
-- Pause one scope. Gives the row when it is new; nothing when it was paused already.
INSERT INTO switches (tenant_id, scope, scope_id, reason, actor) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, scope, scope_id) DO NOTHING
RETURNING tenant_id, scope, scope_id, reason, actor, at;

-- name: switch_read :one
-- The switch of one scope, if it is paused.
SELECT tenant_id, scope, scope_id, reason, actor, at FROM switches WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3;

-- name: switch_off :one
-- Resume one scope. Gives what had paused it; nothing when it was not paused.
DELETE FROM switches WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3
RETURNING tenant_id, scope, scope_id, reason, actor, at;

-- name: switches_of :many
-- Everything that is paused for a tenant, the installation's switch included.
SELECT tenant_id, scope, scope_id, reason, actor, at FROM switches
WHERE tenant_id = $1 OR tenant_id = '00000000-0000-0000-0000-000000000000'
ORDER BY tenant_id, scope, scope_id;

-- name: switches_all :many
-- Everything that is paused anywhere, for people of the installation.
-- tenant: none, because an operator of the installation asks about every tenant at once
SELECT tenant_id, scope, scope_id, reason, actor, at FROM switches ORDER BY tenant_id, scope, scope_id;

-- name: switch_target :value
-- Whether a sender, connection or campaign of this tenant exists, so that nobody pauses a typing mistake and believes it stopped.
SELECT CASE $2::text
  WHEN 'sender' THEN EXISTS (SELECT FROM senders WHERE tenant_id = $1 AND id = $3)
  WHEN 'connection' THEN EXISTS (SELECT FROM connections WHERE tenant_id = $1 AND id = $3)
  ELSE EXISTS (SELECT FROM campaigns WHERE tenant_id = $1 AND id = $3)
END;

-- name: epoch_bump :value
-- Count a change of the switches and tell every process; workers stop work begun under an older count.
-- tenant: none, because the count is the installation's
WITH bumped AS (UPDATE installation SET switch_epoch = switch_epoch + 1 WHERE id = 1 RETURNING switch_epoch)
SELECT switch_epoch FROM bumped, LATERAL (SELECT pg_notify('outrider_switch', bumped.switch_epoch::text)) AS told;

-- name: epoch_read :one
-- The count of switch changes and whether maintenance is on: one row, asked by every process twice a second.
-- tenant: none, because both are the installation's
SELECT switch_epoch, maintenance_since, maintenance_reason, maintenance_by FROM installation WHERE id = 1;

-- name: settle_bound :run
-- Bound the wait of the barrier below, in milliseconds.
-- tenant: none, because it only sets limits of this transaction
SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $1, true);

-- name: settle_installation :run
-- Wait for every claim that began before a switch was committed: a claim holds its lane's row until it has committed.
-- tenant: none, because the installation's switch concerns every tenant's lanes
SELECT 1 FROM lanes WHERE is_open ORDER BY tenant_id, id FOR SHARE;

-- name: settle_tenant :run
-- The same for the lanes of one tenant, narrowed to a channel, a sender or a campaign where that was paused.
SELECT 1 FROM lanes
WHERE tenant_id = $1 AND is_open
  AND ($2::text IS NULL OR channel = $2) AND ($3::uuid IS NULL OR sender_id = $3) AND ($4::uuid IS NULL OR campaign_id = $4)
ORDER BY id FOR SHARE;

-- name: maintenance_begin :one
-- Turn maintenance on; gives nothing when it was on already.
-- tenant: none, because maintenance is the installation's
UPDATE installation SET maintenance_since = now(), maintenance_reason = $1, maintenance_by = $2
WHERE id = 1 AND maintenance_since IS NULL RETURNING maintenance_since;

-- name: maintenance_end :one
-- Turn maintenance off; gives nothing when it was off already.
-- tenant: none, because maintenance is the installation's
UPDATE installation SET maintenance_since = NULL, maintenance_reason = NULL, maintenance_by = NULL
WHERE id = 1 AND maintenance_since IS NOT NULL RETURNING id;

-- name: bucket_take :value
-- Take min(asked, there) tokens. Refills by the clock read inside the statement: now() would be wrong after a wait.
UPDATE buckets b SET
  granted = least(floor(least(b.cap, b.tokens + b.rate * greatest(0, n.t - b.at_s))), $4::float8)::bigint,
  tokens = least(b.cap, b.tokens + b.rate * greatest(0, n.t - b.at_s))
         - least(floor(least(b.cap, b.tokens + b.rate * greatest(0, n.t - b.at_s))), $4::float8),
  at_s = greatest(b.at_s, n.t)
FROM (SELECT extract(epoch FROM clock_timestamp())::float8 AS t OFFSET 0) n
WHERE b.tenant_id = $1 AND b.scope = $2 AND b.scope_id = $3
RETURNING b.granted;

-- name: quota_of_all_lock :one
-- What holds for the installation, held for a change.
-- tenant: none, because it is the installation's
SELECT open_most, tenant_open_most, open_bulk_percent FROM installation FOR UPDATE;

-- name: quota_of_all_set :run
-- Change what holds for the installation; null: the preset.
-- tenant: none, because it is the installation's
UPDATE installation SET open_most = $1, tenant_open_most = $2, open_bulk_percent = $3;

-- name: bucket_return :run
-- Give back what was taken and not used, in the same transaction.
UPDATE buckets SET tokens = least(cap, tokens + $4::float8) WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3;

-- name: bucket_set :one
-- Make or change a bucket; what it holds is kept up to the new cap, a new one starts full.
INSERT INTO buckets AS b (tenant_id, scope, scope_id, rate, cap, tokens) VALUES ($1, $2, $3, $4, $5, $5)
ON CONFLICT (tenant_id, scope, scope_id) DO UPDATE SET rate = $4, cap = $5, tokens = least(b.tokens, $5)
RETURNING tenant_id, scope, scope_id, rate, cap;

-- name: bucket_clear :one
-- Take a bucket away: unlimited from now on.
DELETE FROM buckets WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3 RETURNING tenant_id, scope, scope_id, rate, cap;

-- name: bucket_look :one
-- What a bucket would give now, and its rate; nothing is taken and nobody is locked.
SELECT floor(least(cap, tokens + rate * greatest(0, extract(epoch FROM clock_timestamp())::float8 - at_s)))::bigint AS there, rate
FROM buckets WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3;

-- name: buckets_of :many
-- The limits of a tenant, its senders and its connections; the paces of campaigns are shown with the campaigns.
SELECT tenant_id, scope, scope_id, rate, cap FROM buckets WHERE tenant_id = $1 AND scope <> 'campaign' ORDER BY scope, scope_id;

-- name: paces_purge :run
-- Drop the buckets of campaigns that ended more than `$1` hours ago, and of connections that are gone, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM buckets WHERE ctid = ANY (ARRAY(
  SELECT b.ctid FROM buckets b
  WHERE (b.scope = 'campaign' AND EXISTS (SELECT FROM campaigns c WHERE c.tenant_id = b.tenant_id AND c.id = b.scope_id
                                          AND c.finished_at < now() - $1 * interval '1 hour'))
     OR (b.scope = 'connection' AND NOT EXISTS (SELECT FROM connections c WHERE c.tenant_id = b.tenant_id AND c.id = b.scope_id))
  LIMIT $2));

-- name: lane_terms :one
-- What a lane goes by, asked by every claim: the settings of gates (the campaign's own over its tenant's), the zone, the sender's
-- connection, whether money is counted for it, whether anything limits the money, whose account it is taken from beside the
-- tenant's (a retry's is that of the campaign it sends again), and what paces it, so that a claim asks no others: buckets of campaign, sender (`$4`), connection and tenant, rates of destinations, a warm-up of the sender.
-- Further whether anything of the tenant or the installation is switched off, and what tenant, sender and campaign want noticed of recipients.
SELECT (t.settings || coalesce((SELECT g.settings FROM campaign_gates g WHERE g.tenant_id = $1 AND g.campaign_id = $2), '{}'))::text AS settings,
       t.timezone AS zone, b.is_limited, a.campaign_id AS payer_id, s.connection_id,
       ARRAY(SELECT r.scope FROM buckets r WHERE r.tenant_id = $1
             AND (r.scope, r.scope_id) IN (('campaign', $2::uuid), ('sender', $4::uuid), ('connection', s.connection_id), ('tenant', $1))
             UNION ALL SELECT 'warm_up' FROM warm_ups w WHERE w.tenant_id = $1 AND w.sender_id = $4 AND w.state <> 'finished'
             UNION ALL SELECT 'destination' WHERE EXISTS (SELECT FROM destination_rates d
                       WHERE d.tenant_id IN ($1, '00000000-0000-0000-0000-000000000000') AND d.channel = $3)) AS paced,
       b.is_limited OR ($3 = 'email' AND coalesce((t.settings ->> 'email_price_micros')::bigint, 0) > 0)
         OR EXISTS (SELECT FROM prices p WHERE p.tenant_id = $1 AND p.channel = $3)
         OR EXISTS (SELECT FROM prices p WHERE p.tenant_id = '00000000-0000-0000-0000-000000000000' AND p.channel = $3) AS is_counted,
       EXISTS (SELECT FROM switches w WHERE w.tenant_id = $1) OR EXISTS (SELECT FROM switches w WHERE w.tenant_id = '00000000-0000-0000-0000-000000000000')
         OR EXISTS (SELECT FROM installation i WHERE i.maintenance_since IS NOT NULL) AS is_switched,
       (SELECT json_agg(json_build_object('scope', n.scope, 'opens', n.opens, 'clicks', n.clicks, 'transactional', n.transactional))
        FROM tracking_switches n WHERE n.tenant_id = $1
          AND (n.scope, n.scope_id) IN (('tenant', $1), ('sender', $4::uuid), ('campaign', $2::uuid)))::text AS noticed
FROM tenants t
LEFT JOIN senders s ON s.tenant_id = $1 AND s.id = $4
CROSS JOIN LATERAL (SELECT coalesce((SELECT k.retry_of FROM campaigns k WHERE k.tenant_id = $1 AND k.id = $2), $2) AS campaign_id OFFSET 0) a
CROSS JOIN LATERAL (SELECT t.daily_budget_cents IS NOT NULL OR t.monthly_budget_cents IS NOT NULL
                           OR EXISTS (SELECT FROM budget_accounts x WHERE x.tenant_id = $1 AND x.scope = 'campaign' AND x.scope_id = a.campaign_id
                                      AND (x.daily_cents IS NOT NULL OR x.monthly_cents IS NOT NULL)) AS is_limited) b
WHERE t.id = $1;

-- name: campaign_gates_get :one
-- What a campaign has set for itself; nothing when there is no such campaign.
SELECT c.state, coalesce(g.settings, '{}')::text AS own, t.settings::text AS of_tenant
FROM campaigns c JOIN tenants t ON t.id = c.tenant_id
LEFT JOIN campaign_gates g ON g.tenant_id = $1 AND g.campaign_id = c.id
WHERE c.tenant_id = $1 AND c.id = $2;

-- name: campaign_gates_set :run
-- Replace what a campaign has set for itself.
INSERT INTO campaign_gates (tenant_id, campaign_id, settings) VALUES ($1, $2, $3::text::jsonb)
ON CONFLICT (tenant_id, campaign_id) DO UPDATE SET settings = excluded.settings, updated_at = now();

-- name: campaign_gates_copy :run
-- What a campaign has set for itself holds for another one as well.
INSERT INTO campaign_gates (tenant_id, campaign_id, settings)
SELECT tenant_id, $3, settings FROM campaign_gates WHERE tenant_id = $1 AND campaign_id = $2;

-- name: campaign_gates_clear :run
-- A campaign that has set nothing for itself has no row.
DELETE FROM campaign_gates WHERE tenant_id = $1 AND campaign_id = $2;
