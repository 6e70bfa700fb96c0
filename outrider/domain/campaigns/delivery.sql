-- Statements of how campaigns go out: delivery, variants, waves, paces, local hours.

-- name: delivery_get :one
-- How a campaign goes out, as it is stored, and what that is judged by.
SELECT c.delivery::text AS delivery, c.state, c.channel, c.sender_id, c.template_id, c.template_version, c.lane_id, c.wave, c.waits_for_look, c.late_count,
       c.launched_at, now() AS read_at
FROM campaigns c WHERE c.tenant_id = $1 AND c.id = $2;

-- name: delivery_keep :run
-- Say of a draft how it goes out; its preflight has to be made again.
UPDATE campaigns SET delivery = $3::text::jsonb, preflight = NULL WHERE tenant_id = $1 AND id = $2 AND state = 'draft';

-- name: variants_drop :run
-- Take the variants of a draft away.
DELETE FROM campaign_variants WHERE tenant_id = $1 AND campaign_id = $2;

-- name: variant_add :run
-- One variant of a draft.
INSERT INTO campaign_variants (tenant_id, campaign_id, n, name, width, content_id, template_id, template_version, subject)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: variants_of :many
-- The variants of a campaign, in their order.
SELECT v.n, v.name, v.width, v.content_id, v.template_id, v.template_version, v.subject, c.channel
FROM campaign_variants v JOIN contents c ON c.tenant_id = v.tenant_id AND c.id = v.content_id
WHERE v.tenant_id = $1 AND v.campaign_id = $2 ORDER BY v.n;

-- name: variant_states :many
-- Messages of a campaign by content and state. Reads every message of the campaign once.
SELECT content_id, state, count(*) AS n FROM messages WHERE tenant_id = $1 AND campaign_id = $2 GROUP BY 1, 2;

-- name: variant_of_message :one
-- Which variant a message was; nulls when its campaign has none.
SELECT m.campaign_id, m.content_id, v.n, v.name FROM messages m LEFT JOIN campaign_variants v ON v.tenant_id = m.tenant_id AND v.campaign_id = m.campaign_id AND v.content_id = m.content_id
WHERE m.tenant_id = $1 AND m.id = $2;

-- name: audience_remember :run
-- A contact is about to become a part of another one, and to leave its lists: campaigns that walk one of them and have not come to it
-- yet find it here, and go to whoever it is then. The other one may stand where they have been already. A launch that may still be
-- undone has not been anywhere.
INSERT INTO campaign_audience (tenant_id, campaign_id, contact_id)
SELECT $1, c.id, m.contact_id FROM list_members m JOIN campaigns c ON c.tenant_id = m.tenant_id AND c.list_id = m.list_id
WHERE m.tenant_id = $1 AND m.contact_id = $2 AND m.added_at <= c.launched_at AND c.expanded_at IS NULL AND c.finished_at IS NULL
  AND c.audience IS NULL AND c.retry_of IS NULL AND (c.undo_until IS NULL OR c.undo_until <= now())
ON CONFLICT DO NOTHING;

-- name: bucket_counts :many
-- How many members of a found audience fall into each bucket.
SELECT outrider_bucket($2, contact_id, 0) AS bucket, count(*) AS n FROM campaign_audience
WHERE tenant_id = $1 AND campaign_id = $2 GROUP BY 1 ORDER BY 1;

-- name: wave_add :run
-- Plan one wave.
INSERT INTO campaign_waves (tenant_id, campaign_id, n, kind, bucket_from, bucket_to, member_count) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: wave_begin :run
-- The wave that is queued next.
UPDATE campaigns SET wave = $3, waits_for_look = false WHERE tenant_id = $1 AND id = $2;

-- name: waves_of :many
-- The waves of a campaign, in their order.
SELECT n, kind, bucket_from, bucket_to, member_count, queued_count, expanded_at, look_at, looked_at, found::text AS found, verdict, why, winner, decided_by, decided_at
FROM campaign_waves WHERE tenant_id = $1 AND campaign_id = $2 ORDER BY n;

-- name: wave_now :one
-- The wave that is queued or waits, held with its campaign for a change.
SELECT c.state, c.delivery::text AS delivery, c.waits_for_look, c.launched_at, w.n, w.kind, w.expanded_at, w.look_at, w.looked_at, w.verdict, w.why, w.winner,
       (SELECT max(x.n) FROM campaign_waves x WHERE x.tenant_id = c.tenant_id AND x.campaign_id = c.id) AS last_n
FROM campaigns c LEFT JOIN campaign_waves w ON w.tenant_id = c.tenant_id AND w.campaign_id = c.id AND w.n = c.wave
WHERE c.tenant_id = $1 AND c.id = $2 FOR UPDATE OF c;

-- name: winner_of :value
-- The content that the rest of a campaign gets, once that was decided.
SELECT v.content_id FROM campaign_waves w JOIN campaign_variants v ON v.tenant_id = w.tenant_id AND v.campaign_id = w.campaign_id AND v.n = w.winner
WHERE w.tenant_id = $1 AND w.campaign_id = $2;

-- name: wave_turn :one
-- The wave whose turn it is, when the campaign is held: whom it is to, how far it is, and whether others follow.
SELECT kind, bucket_from, bucket_to, expanded_to,
       EXISTS (SELECT 1 FROM campaign_waves x WHERE x.tenant_id = $1 AND x.campaign_id = $2 AND x.n > $3) AS has_more_waves
FROM campaign_waves WHERE tenant_id = $1 AND campaign_id = $2 AND n = $3;

-- name: wave_keep :run
-- The checkpoint of a page of a wave; `$4` is null when the wave is through.
UPDATE campaign_waves SET expanded_to = coalesce($4, expanded_to), queued_count = queued_count + $5,
       expanded_at = CASE WHEN $4::uuid IS NULL THEN now() END
WHERE tenant_id = $1 AND campaign_id = $2 AND n = $3;

-- name: wave_wait :run
-- The next wave waits until somebody looked at the one that is through.
UPDATE campaigns SET waits_for_look = true WHERE tenant_id = $1 AND id = $2;

-- name: looks_due :many
-- Campaigns of which a wave is to be looked at, or of which it is to be seen whether all of it was tried.
-- tenant: none, because it is the directory of the loop that looks
SELECT c.tenant_id, c.id FROM campaigns c JOIN campaign_waves w ON w.tenant_id = c.tenant_id AND w.campaign_id = c.id AND w.n = c.wave
WHERE c.state = 'sending' AND c.waits_for_look AND w.verdict IS NULL AND w.looked_at IS NULL AND (w.look_at IS NULL OR w.look_at <= now())
ORDER BY w.look_at NULLS LAST LIMIT 50;

-- name: look_turn :one
-- Take one campaign for a look at its wave; another worker's is passed over.
SELECT c.delivery::text AS delivery, c.channel, c.lane_id, c.launched_at, w.n, w.kind, w.look_at, w.look_at <= now() AS is_due
FROM campaigns c JOIN campaign_waves w ON w.tenant_id = c.tenant_id AND w.campaign_id = c.id AND w.n = c.wave
WHERE c.tenant_id = $1 AND c.id = $2 AND c.state = 'sending' AND c.waits_for_look AND w.verdict IS NULL AND w.looked_at IS NULL
FOR UPDATE OF c SKIP LOCKED;

-- name: has_untried :value
-- Whether a message of a lane was never tried, or is being tried for the first time: its wave has not gone out yet. The
-- orders mean nothing but the two indexes.
SELECT EXISTS ((SELECT 1 FROM queue WHERE tenant_id = $1 AND lane_id = $2 AND state = 0 AND attempted_at IS NULL
                ORDER BY priority, due_at, message_id LIMIT 1)
               UNION ALL
               (SELECT 1 FROM queue WHERE tenant_id = $1 AND lane_id = $2 AND state IN (1, 4, 5) AND (attempted_at IS NULL OR (state = 1 AND attempt = 1))
                ORDER BY state LIMIT 1));

-- name: look_set :run
-- When a wave is looked at: so many seconds from now.
UPDATE campaign_waves SET look_at = now() + $4 * interval '1 second' WHERE tenant_id = $1 AND campaign_id = $2 AND n = $3 AND look_at IS NULL;

-- name: complained :value
-- Recipients of a campaign who have complained since its launch.
SELECT count(*) FROM campaign_recipients r
CROSS JOIN LATERAL (SELECT 1 FROM suppressions s WHERE s.tenant_id = $1 AND s.channel = $3 AND s.address_hash = sha256(convert_to(r.address, 'UTF8'))
                      AND s.reason = 'complaint' AND s.created_at >= $4 LIMIT 1) s -- LIMIT: one look-up each, never all of the list
WHERE r.tenant_id = $1 AND r.campaign_id = $2;

-- name: look_keep :run
-- What a look found; what kept others from looking is over.
WITH healed AS (UPDATE campaigns SET trouble = NULL, trouble_at = NULL WHERE tenant_id = $1 AND id = $2 AND trouble IS NOT NULL)
UPDATE campaign_waves SET looked_at = now(), found = $4::text::jsonb WHERE tenant_id = $1 AND campaign_id = $2 AND n = $3;

-- name: wave_decide :value
-- Decide about a wave. A winner stays what it is; a stop can become a going on, never the other way.
UPDATE campaign_waves SET verdict = $4, why = $5, winner = coalesce(winner, $6), decided_by = $7, decided_at = now()
WHERE tenant_id = $1 AND campaign_id = $2 AND n = $3 AND verdict IS DISTINCT FROM 'go_on' RETURNING n;

-- name: wave_reopen :run
-- Let a wave that was stopped before it was queued be queued to its end.
UPDATE campaign_waves SET verdict = NULL, why = NULL, decided_by = NULL, decided_at = NULL
WHERE tenant_id = $1 AND campaign_id = $2 AND n = $3 AND verdict = 'stop';

-- name: pace_keep :run
-- The pace that holds for a launched campaign from now on is the one said of it, for its retries too.
UPDATE campaigns SET delivery = $3::text::jsonb WHERE tenant_id = $1 AND id = $2;

-- name: pace_of :value
-- How fast a campaign may go.
SELECT rate FROM buckets WHERE tenant_id = $1 AND scope = 'campaign' AND scope_id = $2;

-- name: zones :many
-- The zones this database knows, in small letters, and when a local time is there. In a gap of summer time the hour
-- before it counts on; of an hour that comes twice it is the second.
-- tenant: none, because zones are everybody's
SELECT lower(name) AS name, $1::timestamp AT TIME ZONE name AS due_at FROM pg_timezone_names;

-- name: tenant_zone :value
-- The zone of a tenant.
SELECT lower(timezone) FROM tenants WHERE id = $1;

-- name: zones_of_rules :many
-- How many of the contacts for whom rules hold live in which zone; `$2` names the attribute that may hold one.
SELECT lower(coalesce(c.timezone, c.attributes ->> $2::text)) AS zone, count(*) AS n FROM contacts c
WHERE c.tenant_id = $1 AND /* rules */ true GROUP BY 1;

-- name: expected :value
-- How many recipients a launched campaign will have: those queued once all are, before that those counted at its launch.
SELECT CASE WHEN expanded_at IS NOT NULL THEN expanded_count
            ELSE greatest(expanded_count, coalesce((preflight ->> 'will_go_count')::bigint, 0)) END
FROM campaigns WHERE tenant_id = $1 AND id = $2;
