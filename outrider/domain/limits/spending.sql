-- name: account_lock :one
-- Lock one account: what was spent in its day and month as they stand, and the limits that hold. Locked campaign first, tenant last.
SELECT clock_timestamp() AS now, a.day_on, a.day_ends_at, a.day_spent_micros, a.month_on, a.month_ends_at, a.month_spent_micros, a.is_short, a.is_freed,
       CASE a.scope WHEN 'tenant' THEN t.daily_budget_cents ELSE a.daily_cents END AS daily_cents,
       CASE a.scope WHEN 'tenant' THEN t.monthly_budget_cents ELSE a.monthly_cents END AS monthly_cents
FROM budget_accounts a JOIN tenants t ON t.id = a.tenant_id
WHERE a.tenant_id = $1 AND a.scope = $2 AND a.scope_id = $3 FOR UPDATE OF a;

-- name: account_make :run
-- An account that nothing was spent from; its day and month end at once, so that the first to lock it begins them.
INSERT INTO budget_accounts (tenant_id, scope, scope_id, day_on, day_ends_at, month_on, month_ends_at)
VALUES ($1, $2, $3, current_date, now(), current_date, now()) ON CONFLICT DO NOTHING;

-- name: accounts_freed :many
-- Accounts to which money came back while messages wait for it. They are so, and nobody is known to lack their money, until all
-- that waits has been asked about or somebody lacks it again.
-- tenant: none, because one look serves every tenant
UPDATE budget_accounts a SET is_short = false
FROM (SELECT tenant_id, scope, scope_id FROM budget_accounts WHERE is_freed ORDER BY tenant_id LIMIT 100 FOR UPDATE SKIP LOCKED) f
WHERE a.tenant_id = f.tenant_id AND a.scope = f.scope AND a.scope_id = f.scope_id
RETURNING a.tenant_id, a.scope, a.scope_id;

-- name: account_asked :run
-- All that waited for its money was asked about again, unless somebody lacks it since.
UPDATE budget_accounts SET is_freed = false WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3 AND is_freed AND NOT is_short;

-- name: account_free :run
-- There may be money in it for what waits, also for what a claim holds now that goes by what was true when it began.
UPDATE budget_accounts SET is_short = true, is_freed = true WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3;

-- name: accounts_free_all :run
-- What waits for any money is to be asked about again: prices of everybody have changed. Locked as claims lock.
-- tenant: none, because such prices are the installation's
UPDATE budget_accounts a SET is_freed = true
FROM (SELECT tenant_id, scope, scope_id FROM budget_accounts WHERE is_short ORDER BY tenant_id, scope, scope_id FOR UPDATE) f
WHERE a.tenant_id = f.tenant_id AND a.scope = f.scope AND a.scope_id = f.scope_id;

-- name: account_write :run
-- Write a locked account.
UPDATE budget_accounts SET day_on = $4, day_ends_at = $5, day_spent_micros = $6, month_on = $7, month_ends_at = $8, month_spent_micros = $9,
  is_short = $10, is_freed = $11
WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3;

-- name: payer_of :value
-- The campaign from whose account a campaign's messages are paid: its own, a retry's that of the campaign it sends again.
SELECT coalesce(retry_of, id) FROM campaigns WHERE tenant_id = $1 AND id = $2;

-- name: prices_now :many
-- What one part of a message of a channel costs now, per country; '' is every other. A tenant's own price goes before the installation's.
SELECT DISTINCT ON (country) country, micros FROM prices
WHERE tenant_id IN ($1, '00000000-0000-0000-0000-000000000000') AND channel = $2 AND valid_from <= now()
ORDER BY country, tenant_id DESC, valid_from DESC;

-- name: content_texts :many
-- The texts of contents, for an estimate of how many parts their messages have.
SELECT id, coalesce(text, '') AS text FROM contents WHERE tenant_id = $1 AND id = ANY($2::uuid[]);

-- name: charges_add :run
-- Note what attempts were charged; `$9`: the provider is asked later what they really cost.
INSERT INTO charges (tenant_id, message_id, token, campaign_id, micros, segments, day_on, month_on, ask_at)
SELECT $1, t.id, $3, $4, t.micros, t.segments, $7, $8, CASE WHEN $9::boolean THEN now() + interval '15 minutes' END
FROM unnest($2::uuid[], $5::bigint[], $6::smallint[]) AS t(id, micros, segments);

-- name: charges_take_back :many
-- The attempts were not sent: their charges go; settled ones stay, the provider billed them.
DELETE FROM charges c USING unnest($2::uuid[], $3::bigint[]) AS d(id, token)
WHERE c.tenant_id = $1 AND c.message_id = d.id AND c.token = d.token AND NOT c.is_settled
RETURNING c.campaign_id, c.micros, c.day_on, c.month_on;

-- name: charges_take_back_all :many
-- The same for every attempt of messages, once it is known that none was sent.
DELETE FROM charges WHERE tenant_id = $1 AND message_id = ANY($2::uuid[]) AND NOT is_settled
RETURNING campaign_id, micros, day_on, month_on;

-- name: charges_lock :many
-- Lock what attempts were charged, in one order and before any account: those whose price nobody has said yet, and the others.
SELECT message_id, is_settled FROM charges WHERE tenant_id = $1 AND message_id = ANY($2::uuid[]) AND token = $3
ORDER BY message_id FOR UPDATE;

-- name: charges_change :run
-- The finished messages have other numbers of parts than was estimated.
UPDATE charges c SET micros = d.micros, segments = d.segments
FROM unnest($2::uuid[], $4::bigint[], $5::smallint[]) AS d(id, micros, segments)
WHERE c.tenant_id = $1 AND c.message_id = d.id AND c.token = $3;

-- name: charges_name :run
-- Attempts that followed others were accepted: their ids at the provider, so that a bill is put to the right one.
UPDATE charges c SET provider_id = d.provider_id FROM unnest($2::uuid[], $3::bigint[], $4::text[]) AS d(id, token, provider_id)
WHERE c.tenant_id = $1 AND c.message_id = d.id AND c.token = d.token;

-- name: charges_settle :many
-- The provider's own prices take the place of the reservations, each by its id at the provider: of the attempt that is known by
-- it, else of the first one that is known by none; without an id, of the last one. Gives what those were. The attempts are
-- found once and for all: looked for again row by row, one that is changed already would give way to the next.
WITH d AS MATERIALIZED (
  SELECT p.id, p.micros, p.provider_id, l.token, l.micros AS was
  FROM (SELECT id, micros, provider_id FROM unnest($2::uuid[], $3::bigint[], $4::text[]) t(id, micros, provider_id) ORDER BY id) p
  CROSS JOIN LATERAL (SELECT token, micros FROM charges x
                      WHERE x.tenant_id = $1 AND x.message_id = p.id AND (p.provider_id = '' OR x.provider_id IS NULL OR x.provider_id = p.provider_id)
                      ORDER BY (x.provider_id = p.provider_id) IS TRUE DESC, CASE WHEN p.provider_id = '' THEN -token ELSE token END
                      LIMIT 1 FOR UPDATE) l
)
UPDATE charges c SET micros = d.micros, is_settled = true, ask_at = NULL, provider_id = coalesce(nullif(d.provider_id, ''), c.provider_id)
FROM d WHERE c.tenant_id = $1 AND c.message_id = d.id AND c.token = d.token
RETURNING c.message_id, d.was, c.micros, c.campaign_id, c.day_on, c.month_on;

-- name: charges_keep :run
-- What was reserved for messages is what they cost: nobody says otherwise.
UPDATE charges SET is_settled = true, ask_at = NULL WHERE tenant_id = $1 AND message_id = ANY ($2::uuid[]) AND NOT is_settled;

-- name: tenants_asking :many
-- Tenants with charges whose provider is to be asked now: from tenant to tenant along the index.
-- tenant: none, because it is the directory of the loop
WITH RECURSIVE asking AS (
  (SELECT tenant_id, ask_at FROM charges WHERE ask_at IS NOT NULL ORDER BY tenant_id, ask_at LIMIT 1)
  UNION ALL
  SELECT n.tenant_id, n.ask_at FROM asking w
  CROSS JOIN LATERAL (SELECT c.tenant_id, c.ask_at FROM charges c WHERE c.ask_at IS NOT NULL AND c.tenant_id > w.tenant_id
                      ORDER BY c.tenant_id, c.ask_at LIMIT 1) n
)
SELECT tenant_id FROM asking WHERE ask_at <= now();

-- name: charges_due :many
-- Charges of a tenant whose provider is to be asked, those that wait longest first, `$2` at a time. Each is asked about again
-- after half its age, a quarter of an hour at least; what has no price after `$3` days costs what was reserved.
UPDATE charges c SET is_settled = c.is_settled OR c.at < now() - $3 * interval '1 day',
       ask_at = CASE WHEN c.at >= now() - $3 * interval '1 day' THEN now() + greatest(interval '15 minutes', (now() - c.at) / 2) END
FROM (SELECT message_id, token FROM charges WHERE tenant_id = $1 AND ask_at <= now() ORDER BY ask_at LIMIT $2 FOR UPDATE SKIP LOCKED) d
WHERE c.tenant_id = $1 AND c.message_id = d.message_id AND c.token = d.token
RETURNING c.message_id, c.at, c.ask_at IS NULL AS is_over;

-- name: is_stopped :value
-- Whether everything of a tenant, or its whole channel, is paused or in maintenance.
SELECT EXISTS (SELECT FROM switches WHERE tenant_id IN ($1, '00000000-0000-0000-0000-000000000000')
               AND (scope IN ('installation', 'tenant') OR (scope = 'channel' AND scope_id = $2)))
    OR EXISTS (SELECT FROM installation WHERE maintenance_since IS NOT NULL);

-- name: charges_of :many
-- What a message was charged, attempt by attempt.
SELECT token, micros, segments, day_on, is_settled, at FROM charges WHERE tenant_id = $1 AND message_id = $2 ORDER BY token;

-- name: charges_purge :run
-- Drop charges older than `$1` days, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM charges WHERE ctid = ANY (ARRAY(SELECT ctid FROM charges WHERE at < now() - $1 * interval '1 day' ORDER BY at LIMIT $2));

-- name: budget_events_purge :run
-- Drop notes about budgets older than `$1` days, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM budget_events WHERE ctid = ANY (ARRAY(SELECT ctid FROM budget_events WHERE at < now() - $1 * interval '1 day' LIMIT $2));

-- name: budget_event_add :value
-- Note once per period that a budget was used up to a share; gives nothing when that was noted before.
INSERT INTO budget_events (tenant_id, scope, scope_id, period, period_on, percent, spent_cents, limit_cents)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING percent;

-- name: budget_events_of :many
-- The newest notes about budgets before a place: `$3` its moment (null: the newest of all), `$4..$8` its key.
SELECT scope, scope_id, period, period_on, percent, spent_cents, limit_cents, at FROM budget_events
WHERE tenant_id = $1 AND ($3::timestamptz IS NULL OR (at <= $3
      AND (at, scope, scope_id, period, period_on, percent) < ($3, $4::text, $5::uuid, $6::text, $7::date, $8::int)))
ORDER BY at DESC, scope DESC, scope_id DESC, period DESC, period_on DESC, percent DESC LIMIT $2;

-- name: budgets_of :many
-- The budgets of a tenant and of its campaigns that have one, and what is spent.
SELECT a.scope, a.scope_id,
       CASE a.scope WHEN 'tenant' THEN t.daily_budget_cents ELSE a.daily_cents END AS daily_cents,
       CASE a.scope WHEN 'tenant' THEN t.monthly_budget_cents ELSE a.monthly_cents END AS monthly_cents,
       CASE WHEN a.day_ends_at > now() THEN a.day_spent_micros ELSE 0 END AS day_spent_micros,
       CASE WHEN a.month_ends_at > now() THEN a.month_spent_micros ELSE 0 END AS month_spent_micros,
       CASE WHEN a.day_ends_at > now() THEN a.day_ends_at END AS day_ends_at,
       CASE WHEN a.month_ends_at > now() THEN a.month_ends_at END AS month_ends_at
FROM budget_accounts a JOIN tenants t ON t.id = a.tenant_id
WHERE a.tenant_id = $1 AND ($2::text IS NULL OR a.scope = $2) AND ($3::uuid IS NULL OR a.scope_id = $3)
ORDER BY a.scope DESC, a.scope_id;

-- name: budgets_most_used :many
-- The `$1` tenants that used the most of a limit, of those with a limit or spendings now.
-- tenant: none, because operators see the whole installation as aggregates
SELECT u.tenant_id, u.daily_cents, u.monthly_cents, u.day_spent_micros, u.month_spent_micros
FROM (SELECT a.tenant_id, t.daily_budget_cents AS daily_cents, t.monthly_budget_cents AS monthly_cents,
             CASE WHEN a.day_ends_at > now() THEN a.day_spent_micros ELSE 0 END AS day_spent_micros,
             CASE WHEN a.month_ends_at > now() THEN a.month_spent_micros ELSE 0 END AS month_spent_micros
      FROM budget_accounts a JOIN tenants t ON t.id = a.tenant_id WHERE a.scope = 'tenant') u
WHERE u.daily_cents IS NOT NULL OR u.monthly_cents IS NOT NULL OR u.month_spent_micros > 0
ORDER BY greatest(u.day_spent_micros / (u.daily_cents * 10000.0 + 1), u.month_spent_micros / (u.monthly_cents * 10000.0 + 1)) DESC NULLS LAST,
         u.month_spent_micros DESC, u.tenant_id LIMIT $1;

-- name: budget_of_campaign_set :run
-- Set a campaign's limits; null: none.
UPDATE budget_accounts SET daily_cents = $3, monthly_cents = $4 WHERE tenant_id = $1 AND scope = 'campaign' AND scope_id = $2;

-- name: hand_changes_take :many
-- UPDATEs made by hand, to be written into the audit log.
-- tenant: none, because people with psql change any tenant's
DELETE FROM budget_hand_changes WHERE id = ANY (ARRAY(SELECT id FROM budget_hand_changes ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED))
RETURNING tenant_id, what, before_cents, after_cents, by_login, at;

-- name: price_add :one
-- A price from a moment on; one from the very same moment is replaced.
INSERT INTO prices (tenant_id, channel, country, valid_from, micros, created_by) VALUES ($1, $2, $3, coalesce($4, now()), $5, $6)
ON CONFLICT (tenant_id, channel, country, valid_from) DO UPDATE SET micros = excluded.micros, created_by = excluded.created_by
RETURNING tenant_id, channel, country, valid_from, micros, created_by;

-- name: price_remove :many
-- Take the prices of a channel and country away, those to come as well.
DELETE FROM prices WHERE tenant_id = $1 AND channel = $2 AND country = $3 RETURNING valid_from, micros;

-- name: prices_begun :one
-- Whose prices came into force after `$1` (null: within a day), and until when that is known: the caller asks from there on next time.
-- tenant: none, because one look serves every tenant
SELECT now() AS until, ARRAY(SELECT DISTINCT tenant_id FROM prices
                             WHERE valid_from > coalesce($1, now() - interval '1 day') AND valid_from <= now()) AS tenants;

-- name: prices_of :many
-- Every price that a tenant has, the installation's and past ones included.
SELECT tenant_id, channel, country, valid_from, micros, created_by FROM prices
WHERE tenant_id IN ($1, '00000000-0000-0000-0000-000000000000') ORDER BY channel, country, valid_from DESC, tenant_id LIMIT 5000;

-- name: zone_of_tenant :value
-- The zone in which a tenant's days and months end.
-- tenant: none, because the row is the tenant itself
SELECT timezone FROM tenants WHERE id = $1;

-- name: contacted_lock :value
-- Let a tenant's claims that count contacts go one after another. What was sent to whom is looked up by its index from here on,
-- also by a plan that was made when the table had just been emptied: read as a whole it would be, for each message, as it grows.
-- tenant: none, because the row is the tenant itself
SELECT id, set_config('enable_seqscan', 'off', true) FROM tenants WHERE id = $1 FOR NO KEY UPDATE;

-- name: contacted_add :run
-- Note who is sent what.
INSERT INTO contact_sends (tenant_id, message_id, token, contact_id, purpose)
SELECT $1, t.id, $3, c.contact_id, t.purpose
FROM unnest($2::uuid[], $4::uuid[], $5::text[], $7::text[]) AS t(id, contact_id, address, purpose)
CROSS JOIN LATERAL (
  SELECT coalesce(t.contact_id, (SELECT a.contact_id FROM addresses a
                                 WHERE a.tenant_id = $1 AND a.channel = $6 AND a.address = t.address)) AS contact_id
) c
WHERE c.contact_id IS NOT NULL;

-- name: contacted_take_back :run
-- The attempts were not sent and count nowhere any more: before all time, until what is held by the count is asked about again.
UPDATE contact_sends c SET at = '-infinity' FROM unnest($2::uuid[], $3::bigint[]) AS d(id, token)
WHERE c.tenant_id = $1 AND c.message_id = d.id AND c.token = d.token AND c.at > '-infinity';

-- name: contacted_take_back_all :run
-- None of the attempts was sent.
UPDATE contact_sends SET at = '-infinity' WHERE tenant_id = $1 AND message_id = ANY($2::uuid[]) AND at > '-infinity';

-- name: contacted_give :run
-- What `$3` was sent counts for `$2`.
UPDATE contact_sends SET contact_id = $2 WHERE tenant_id = $1 AND contact_id = $3;

-- name: contacted_freed_tenants :many
-- Tenants with attempts that were taken back; of very many attempts those of the first.
-- tenant: none, because one look serves every tenant
SELECT DISTINCT tenant_id FROM (SELECT tenant_id FROM contact_sends WHERE at <= '-infinity' ORDER BY at LIMIT 1000) f;

-- name: contacted_freed :one
-- Drop the attempts of `$2` messages that were taken back. Gives how many, and the contacts and purposes with room since: not those whose message
-- has gone again meanwhile and counts as before. In the order of an index, which no plan made for an empty table can do without.
WITH gone AS (
  DELETE FROM contact_sends WHERE tenant_id = $1 AND at <= '-infinity' AND message_id = ANY (ARRAY(
    SELECT message_id FROM contact_sends WHERE tenant_id = $1 AND at <= '-infinity' ORDER BY at LIMIT $2))
  RETURNING message_id, contact_id, purpose
), free AS (
  SELECT DISTINCT contact_id, purpose FROM gone g
  WHERE (SELECT n.token FROM contact_sends n WHERE n.tenant_id = $1 AND n.message_id = g.message_id AND n.at > '-infinity' LIMIT 1) IS NULL
)
SELECT (SELECT count(*) FROM gone) AS n, coalesce(array_agg(contact_id), '{}') AS contacts, coalesce(array_agg(purpose), '{}') AS purposes
FROM free;

-- name: contacted_purge :run
-- Drop what is too old to count, older than `$1` hours, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM contact_sends WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM contact_sends WHERE at < now() - $1 * interval '1 hour' AND at > '-infinity' ORDER BY at LIMIT $2));
