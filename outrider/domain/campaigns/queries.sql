-- Statements of campaigns. Fan-out, its checkpoint and the end of a campaign are in domain/messages.

-- name: insert_campaign :value
-- Make a draft; nothing when the name is taken.
INSERT INTO campaigns (tenant_id, name, channel, purpose, sender_id, content_id, template_id, template_version, list_id, segment_id, exclusions, priority, expires_at, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb, $12, $13, $14)
ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id;

-- name: update_draft :value
-- Change a draft.
UPDATE campaigns SET name = $3, channel = $4, purpose = $5, sender_id = $6, content_id = $7, template_id = $8, template_version = $9, list_id = $10,
       segment_id = $11, exclusions = $12::text::jsonb, priority = $13, expires_at = $14, preflight = NULL, launch_trouble = NULL
WHERE tenant_id = $1 AND id = $2 AND state = 'draft' RETURNING id;

-- name: lock_campaign :value
-- A campaign's state, held for a change.
SELECT state FROM campaigns WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- name: campaign_get :one
-- One campaign as it stands, and the database's clock.
SELECT id, name, channel, purpose, sender_id, content_id, template_id, template_version, list_id, segment_id, exclusions::text AS exclusions, audience_at, audience_count,
       state, priority, expires_at, lane_id, expanded_count, expanded_at, no_address_count, preflight::text AS preflight, created_by, created_at, launch_at, launch_trouble, launched_at, finished_at,
       undo_until, acknowledged::text AS acknowledged, retry_of, joined_count, delivery::text AS delivery, now() AS read_at
FROM campaigns WHERE tenant_id = $1 AND id = $2;

-- name: campaigns_page :many
-- Campaigns, newest first, before `$2`; `$4` only those in this state.
SELECT id, name, channel, purpose, sender_id, content_id, template_id, template_version, list_id, segment_id, exclusions::text AS exclusions, audience_at, audience_count,
       state, priority, expires_at, lane_id, expanded_count, expanded_at, no_address_count, preflight::text AS preflight, created_by, created_at, launch_at, launch_trouble, launched_at, finished_at,
       undo_until, acknowledged::text AS acknowledged, retry_of, joined_count, delivery::text AS delivery, now() AS read_at
FROM campaigns WHERE tenant_id = $1 AND id < $2 AND ($4::text IS NULL OR state = $4) ORDER BY id DESC LIMIT $3;

-- name: keep_preflight :run
-- Keep what the preflight found, while the campaign is a draft.
UPDATE campaigns SET preflight = $3::text::jsonb WHERE tenant_id = $1 AND id = $2 AND state = 'draft';

-- name: launch_draft :run
-- Freeze what is sent and let the fan-out take it.
UPDATE campaigns SET state = 'sending', lane_id = $3, content_id = $4, template_version = $5, preflight = $6::text::jsonb,
       audience = $7::text::jsonb, launched_at = now(), launch_trouble = NULL,
       undo_until = CASE WHEN $8::int > 0 THEN now() + $8 * interval '1 second' END, undo_version = template_version
WHERE tenant_id = $1 AND id = $2 AND state IN ('draft', 'scheduled');

-- name: undo_turn :one
-- A campaign as an undo finds it, held for the change; the clock is asked under the lock.
SELECT state, undo_until, undo_until > clock_timestamp() AS is_in_time, expanded_to IS NOT NULL OR expanded_at IS NOT NULL AS is_begun
FROM campaigns WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- name: undo_launch :run
-- Make a campaign of which nothing was queued the draft it was.
UPDATE campaigns SET state = 'draft', launched_at = NULL, launch_at = NULL, lane_id = NULL, audience = NULL, audience_at = NULL, audience_count = NULL,
       template_version = undo_version, undo_until = NULL, undo_version = NULL, preflight = NULL, trouble = NULL, trouble_at = NULL, no_room_at = NULL
WHERE tenant_id = $1 AND id = $2;

-- name: acknowledge :run
-- What people have been asked about a campaign and have said yes to.
UPDATE campaigns SET acknowledged = (SELECT coalesce(jsonb_agg(DISTINCT x), '[]') FROM (
         SELECT jsonb_array_elements_text(acknowledged) UNION SELECT unnest($3::text[])) t(x))
WHERE tenant_id = $1 AND id = $2;

-- name: is_first_unprotected :value
-- Whether nothing was ever launched before a campaign and nobody is on the tenant's do-not-contact list of its channel.
SELECT NOT EXISTS (SELECT 1 FROM campaigns WHERE tenant_id = $1 AND launched_at IS NOT NULL AND id <> $2)
   AND (SELECT 1 FROM suppressions WHERE tenant_id = $1 AND channel = $3 ORDER BY address_hash LIMIT 1) IS NULL;

-- name: measured_rate :value
-- Messages per second of the last campaign of a sender that was large enough to tell.
SELECT (expanded_count / extract(epoch FROM finished_at - coalesce(undo_until, launched_at)))::float8 FROM campaigns
WHERE tenant_id = $1 AND sender_id = $2 AND state = 'finished' AND expanded_count >= 100 AND finished_at > coalesce(undo_until, launched_at)
ORDER BY finished_at DESC LIMIT 1;

-- name: schedule_draft :value
-- Let a draft wait for its moment; nothing when that has passed by the database's clock or lies beyond a year.
UPDATE campaigns SET state = 'scheduled', launch_at = $3, launch_trouble = NULL
WHERE tenant_id = $1 AND id = $2 AND state = 'draft' AND $3 > clock_timestamp() AND $3 <= clock_timestamp() + interval '366 days'
RETURNING id;

-- name: unschedule :run
-- Make a waiting campaign a draft again; `$3` says what kept it from being launched, if that is why.
UPDATE campaigns SET state = 'draft', launch_at = NULL, launch_trouble = $3 WHERE tenant_id = $1 AND id = $2 AND state = 'scheduled';

-- name: work_due :one
-- Which loops would find a campaign now, asked for all of them at once, because mostly none would: each by the conditions of its
-- own directory (launches_due, audiences_due, fan_out_due, looks_due, retries_due).
-- tenant: none, because it is the directory of the loops that serve campaigns
SELECT EXISTS (SELECT FROM campaigns WHERE state = 'scheduled' AND launch_at <= now()) AS launches,
       EXISTS (SELECT FROM campaigns WHERE state = 'sending' AND audience IS NOT NULL AND audience_at IS NULL
               AND (undo_until IS NULL OR undo_until <= now())) AS audiences,
       EXISTS (SELECT FROM campaigns WHERE state = 'sending' AND expanded_at IS NULL AND NOT waits_for_look
               AND (audience IS NULL OR audience_at IS NOT NULL) AND retry_of IS NULL AND (undo_until IS NULL OR undo_until <= now())) AS pages,
       EXISTS (SELECT FROM campaigns c JOIN campaign_waves w ON w.tenant_id = c.tenant_id AND w.campaign_id = c.id AND w.n = c.wave
               WHERE c.state = 'sending' AND c.waits_for_look AND w.verdict IS NULL AND w.looked_at IS NULL
                 AND (w.look_at IS NULL OR w.look_at <= now())) AS looks,
       EXISTS (SELECT FROM campaigns WHERE state = 'sending' AND retry_of IS NOT NULL AND expanded_at IS NULL) AS retries;

-- name: launches_due :many
-- Campaigns whose moment has come, the longest due first.
-- tenant: none, because it is the directory of the loop that launches them
SELECT tenant_id, id FROM campaigns WHERE state = 'scheduled' AND launch_at <= now() ORDER BY launch_at LIMIT 50;

-- name: launch_turn :value
-- Take one campaign whose moment has come; another worker's is passed over.
SELECT launch_at FROM campaigns
WHERE tenant_id = $1 AND id = $2 AND state = 'scheduled' AND launch_at <= now() FOR UPDATE SKIP LOCKED;

-- name: set_state :run
-- Pause, resume or cancel; an end gets its time.
UPDATE campaigns SET state = $3, finished_at = CASE WHEN $3 = 'cancelled' THEN now() END WHERE tenant_id = $1 AND id = $2;

-- name: delete_draft :value
-- Delete a campaign that was never launched.
DELETE FROM campaigns WHERE tenant_id = $1 AND id = $2 AND state = 'draft' RETURNING name;

-- name: audience :many
-- Whom a campaign would reach, gate by gate, in the gates' order; the address is the one the fan-out takes. One row with the
-- totals; `$5` also one for each beginning of a telephone number, so that they can be told apart by country.
SELECT grouping(CASE WHEN $5::boolean THEN left(a.address, 8) END) = 1 AS is_total, min(a.address) AS sample, count(*) AS member_count,
       count(*) FILTER (WHERE a.address IS NULL) AS no_address_count,
       count(*) FILTER (WHERE stop.is_there) AS suppressed_count,
       count(*) FILTER (WHERE a.address IS NOT NULL AND stop.is_there IS NULL AND held.status = 'withdrawn') AS withdrawn_count,
       count(*) FILTER (WHERE a.address IS NOT NULL AND stop.is_there IS NULL AND held.status IS NULL) AS silent_count,
       count(*) FILTER (WHERE stop.is_there IS NULL AND held.status = 'granted' AND a.address ~*
         '^(abuse|admin|administrator|billing|compliance|devnull|dns|do-not-reply|donotreply|ftp|hostmaster|info|inoc|ispfeedback|ispsupport|list|list-request|mailer-daemon|maildaemon|marketing|no-reply|noc|noreply|null|office|phish|phishing|postmaster|privacy|registrar|root|sales|security|spam|support|sysadmin|tech|undisclosed-recipients|unsubscribe|usenet|uucp|webmaster|www)(\+[^@]*)?@') AS role_count,
       (SELECT coalesce((settings ->> 'consent_required')::boolean, true) FROM tenants WHERE id = $1) AS is_consent_required
FROM list_members m
LEFT JOIN LATERAL (SELECT address FROM addresses x WHERE x.tenant_id = $1 AND x.contact_id = m.contact_id AND x.channel = $3
                   ORDER BY created_at, address LIMIT 1) a ON true
LEFT JOIN LATERAL (SELECT true AS is_there FROM suppressions s
                   WHERE s.tenant_id IN ($1, '00000000-0000-0000-0000-000000000000') AND s.channel = $3
                     AND s.address_hash = sha256(convert_to(a.address, 'UTF8')) LIMIT 1) stop ON true
LEFT JOIN LATERAL (SELECT status FROM consents c
                   WHERE c.tenant_id = $1 AND c.contact_id = m.contact_id AND c.channel = $3 AND c.purpose = $4 LIMIT 1) held ON true
WHERE m.tenant_id = $1 AND m.list_id = $2
GROUP BY ROLLUP (CASE WHEN $5::boolean THEN left(a.address, 8) END);

-- name: audience_of_rules :many
-- As `audience` with `$4` for its `$5`, of the contacts for whom the rules of a segment less exclusions hold. `$5`: whoever turned
-- off every list on offer that they got has withdrawn, as the gate `list_choice` sees it.
SELECT grouping(CASE WHEN $4::boolean THEN left(a.address, 8) END) = 1 AS is_total, min(a.address) AS sample, count(*) AS member_count,
       count(*) FILTER (WHERE a.address IS NULL) AS no_address_count,
       count(*) FILTER (WHERE stop.is_there) AS suppressed_count,
       count(*) FILTER (WHERE a.address IS NOT NULL AND stop.is_there IS NULL AND held.status = 'withdrawn') AS withdrawn_count,
       count(*) FILTER (WHERE a.address IS NOT NULL AND stop.is_there IS NULL AND held.status IS NULL) AS silent_count,
       count(*) FILTER (WHERE stop.is_there IS NULL AND held.status = 'granted' AND a.address ~*
         '^(abuse|admin|administrator|billing|compliance|devnull|dns|do-not-reply|donotreply|ftp|hostmaster|info|inoc|ispfeedback|ispsupport|list|list-request|mailer-daemon|maildaemon|marketing|no-reply|noc|noreply|null|office|phish|phishing|postmaster|privacy|registrar|root|sales|security|spam|support|sysadmin|tech|undisclosed-recipients|unsubscribe|usenet|uucp|webmaster|www)(\+[^@]*)?@') AS role_count,
       (SELECT coalesce((settings ->> 'consent_required')::boolean, true) FROM tenants WHERE id = $1) AS is_consent_required
FROM contacts c
LEFT JOIN LATERAL (SELECT address FROM addresses x WHERE x.tenant_id = $1 AND x.contact_id = c.id AND x.channel = $2
                   ORDER BY created_at, address LIMIT 1) a ON true
LEFT JOIN LATERAL (SELECT true AS is_there FROM suppressions s
                   WHERE s.tenant_id IN ($1, '00000000-0000-0000-0000-000000000000') AND s.channel = $2
                     AND s.address_hash = sha256(convert_to(a.address, 'UTF8')) LIMIT 1) stop ON true
LEFT JOIN LATERAL (SELECT status FROM consents o
                   WHERE o.tenant_id = $1 AND o.contact_id = c.id AND o.channel = $2 AND o.purpose = $3 LIMIT 1) said ON true
CROSS JOIN LATERAL (SELECT CASE WHEN $5::boolean AND c.id IN (
                     SELECT r.contact_id FROM list_refusals r
                     WHERE r.tenant_id = $1 AND NOT EXISTS (SELECT FROM list_members x JOIN list_offers f ON f.tenant_id = $1 AND f.list_id = x.list_id
                                                            WHERE x.tenant_id = $1 AND x.contact_id = r.contact_id))
                   THEN 'withdrawn' ELSE said.status END AS status) held
WHERE c.tenant_id = $1 AND /* rules */ true
GROUP BY ROLLUP (CASE WHEN $4::boolean THEN left(a.address, 8) END);

-- name: charged_micros :value
-- What the messages of a campaign were charged, those whose outcome nobody knows included.
SELECT coalesce(sum(c.micros), 0)::bigint FROM messages m JOIN charges c ON c.tenant_id = m.tenant_id AND c.message_id = m.id
WHERE m.tenant_id = $1 AND m.campaign_id = $2;

-- name: excluded_campaigns :many
-- Campaigns whose recipients are to be left out, and whether that can be known; `$3` is how many days messages are kept.
SELECT id, name, state, state IN ('sending', 'paused') AND expanded_at IS NULL AS is_under_way,
       launched_at < now() - $3::int * interval '1 day' AS is_forgotten
FROM campaigns WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) ORDER BY id;

-- name: audiences_due :many
-- Launched campaigns of which it is not yet known who belongs to them.
-- tenant: none, because it is the directory of the loop that finds them
SELECT tenant_id, id FROM campaigns WHERE state = 'sending' AND audience IS NOT NULL AND audience_at IS NULL
  AND (undo_until IS NULL OR undo_until <= now()) ORDER BY launched_at LIMIT 50;

-- name: audience_turn :value
-- Whether nobody else is finding this campaign's audience now; no row is locked, so that a pause need not wait.
-- tenant: none, because it names no table
SELECT pg_try_advisory_xact_lock(hashtextextended('audience ' || $1::uuid::text, 0));

-- name: audience_due :one
-- What was frozen of the audience, while it is still to be found.
SELECT audience::text AS audience, launched_at, delivery::text AS delivery, coalesce((preflight ->> 'member_count')::bigint, 0) AS launched_count,
       (SELECT (t.settings ->> 'approval_above_count')::bigint FROM tenants t WHERE t.id = $1) AS approval_above_count FROM campaigns
WHERE tenant_id = $1 AND id = $2 AND state = 'sending' AND audience IS NOT NULL AND audience_at IS NULL
  AND (undo_until IS NULL OR undo_until <= now());

-- name: settle_audience :one
-- Keep who belongs to a campaign: of the contacts there were at its launch.
WITH found AS (
  INSERT INTO campaign_audience (tenant_id, campaign_id, contact_id)
  SELECT $1, $2, c.id FROM contacts c WHERE c.tenant_id = $1 AND c.created_at <= $3::timestamptz AND /* rules */ true
  ON CONFLICT DO NOTHING RETURNING 1
)
SELECT count(*) AS n FROM found;

-- name: audience_settled :run
-- From now on the fan-out takes the campaign.
UPDATE campaigns SET audience_at = now(), audience_count = $3 WHERE tenant_id = $1 AND id = $2 AND audience_at IS NULL;

-- name: audience_purge :run
-- Drop who belonged to campaigns that ended more than `$1` hours ago, `$2` at a time: its recipients say who got it.
-- tenant: none, because retention is the installation's
DELETE FROM campaign_audience WHERE ctid = ANY (ARRAY(
  SELECT a.ctid FROM campaigns c JOIN campaign_audience a ON a.tenant_id = c.tenant_id AND a.campaign_id = c.id
  WHERE c.finished_at < now() - $1 * interval '1 hour' LIMIT $2));

-- name: fan_out_due :many
-- Campaigns that are being sent and not yet fanned out, the one served longest ago first; not those whose next wave
-- waits for a look at the one before.
-- tenant: none, because it is the directory of the fan-out loop
SELECT tenant_id, id FROM campaigns WHERE state = 'sending' AND expanded_at IS NULL AND NOT waits_for_look AND (audience IS NULL OR audience_at IS NOT NULL)
  AND retry_of IS NULL AND (undo_until IS NULL OR undo_until <= now())
ORDER BY greatest(served_at, no_room_at) NULLS FIRST LIMIT 50;

-- name: fan_out_lock :one
-- Take one campaign for one page; another worker's is passed over. Without a list its audience was found before. With
-- waves the checkpoint is the wave's, read after this lock is held: beside it, one would still see the page before.
-- is_counted: how many it goes to decides who has to approve it, so it goes to nobody who joined after it was counted.
SELECT id, channel, sender_id, CASE WHEN audience IS NULL THEN list_id END AS list_id, content_id, purpose, priority, expires_at, lane_id, expanded_to,
       delivery::text AS delivery, wave, (SELECT t.settings ->> 'approval_above_count' IS NOT NULL FROM tenants t WHERE t.id = $1) AS is_counted
FROM campaigns
WHERE tenant_id = $1 AND id = $2 AND state = 'sending' AND expanded_at IS NULL AND NOT waits_for_look AND (audience IS NULL OR audience_at IS NOT NULL)
  AND retry_of IS NULL AND (undo_until IS NULL OR undo_until <= now()) FOR UPDATE SKIP LOCKED;

-- name: fan_out_keep :run
-- The checkpoint of a page, in its own transaction; `$4` is null when the list, or the wave, is through.
UPDATE campaigns SET lane_id = $3, expanded_to = coalesce($4, expanded_to), expanded_count = expanded_count + $5,
       no_address_count = no_address_count + $6, late_count = late_count + $7, joined_count = joined_count + $9,
       served_at = clock_timestamp(),
       expanded_at = CASE WHEN $4::uuid IS NULL AND NOT $8::boolean THEN now() END,
       trouble = NULL, trouble_at = NULL, no_room_at = NULL
WHERE tenant_id = $1 AND id = $2;

-- name: fan_out_trouble :run
-- What keeps a campaign from being queued, since the first time; the next page that is queued takes it away.
UPDATE campaigns SET trouble = $3, trouble_at = coalesce(CASE WHEN no_room_at IS NULL THEN trouble_at END, now()), no_room_at = NULL
WHERE tenant_id = $1 AND id = $2 AND state = 'sending' AND expanded_at IS NULL;

-- name: fan_out_waits :run
-- There is no room in the queue; others have their turn before this one is looked at again.
UPDATE campaigns SET trouble = $3, trouble_at = CASE WHEN no_room_at IS NULL THEN now() ELSE trouble_at END, no_room_at = clock_timestamp()
WHERE tenant_id = $1 AND id = $2;

-- name: fan_out_look :one
-- How the queueing of one campaign goes.
SELECT served_at, trouble, trouble_at, no_room_at FROM campaigns WHERE tenant_id = $1 AND id = $2;

-- name: campaigns_to_finish :many
-- Campaigns whose list is through and of which nothing is open: one look into each of the two indexes of the queue per
-- campaign, so that a hundred campaigns under way cost one statement and the next one is never crowded out.
-- tenant: none, because it is the directory of the finishing loop
SELECT c.tenant_id, c.id
FROM campaigns c
LEFT JOIN LATERAL (
  (SELECT 1 AS is_open FROM queue q WHERE q.tenant_id = c.tenant_id AND q.lane_id = c.lane_id AND q.state = 0
   ORDER BY q.priority, q.due_at, q.message_id LIMIT 1)
  UNION ALL
  (SELECT 1 FROM queue q WHERE q.tenant_id = c.tenant_id AND q.lane_id = c.lane_id AND q.state IN (1, 4, 5) ORDER BY q.state LIMIT 1)
  LIMIT 1
) o ON true
WHERE c.state = 'sending' AND c.expanded_at IS NOT NULL AND o.is_open IS NULL LIMIT 500;

-- name: campaign_finish :value
-- Finish a campaign when every recipient is in an end state: no lane of it has an open message. One look into each of
-- the two indexes per lane; the orders mean nothing but these indexes.
UPDATE campaigns c SET state = 'finished', finished_at = now()
WHERE c.tenant_id = $1 AND c.id = $2 AND c.state = 'sending' AND c.expanded_at IS NOT NULL
  AND NOT EXISTS (
    SELECT 1 FROM lanes l CROSS JOIN LATERAL (
      (SELECT 1 FROM queue q WHERE q.tenant_id = l.tenant_id AND q.lane_id = l.id AND q.state = 0
       ORDER BY q.priority, q.due_at, q.message_id LIMIT 1)
      UNION ALL
      (SELECT 1 FROM queue q WHERE q.tenant_id = l.tenant_id AND q.lane_id = l.id AND q.state IN (1, 4, 5) ORDER BY q.state LIMIT 1)
    ) still_open
    WHERE l.tenant_id = c.tenant_id AND l.campaign_id = c.id)
RETURNING c.id;

-- name: campaigns_to_empty :many
-- Cancelled campaigns with a lane still open: what was on the wire when they were cancelled may have come back since.
-- tenant: none, because it is the directory of the finishing loop
SELECT DISTINCT c.tenant_id, c.id FROM campaigns c JOIN lanes l ON l.tenant_id = c.tenant_id AND l.campaign_id = c.id AND l.is_open
WHERE c.state = 'cancelled' LIMIT 100;

-- name: approval_lapse :run
-- Make room for a new request: what can no longer be answered or used, or is about something else, is over.
UPDATE campaign_approvals SET state = 'void' WHERE tenant_id = $1 AND campaign_id = $2 AND state IN ('waiting', 'approved')
  AND (expires_at <= now() OR digest <> $3);

-- name: approval_ask :value
-- Ask for approval; nothing when it is asked for or given already.
INSERT INTO campaign_approvals (tenant_id, campaign_id, digest, member_count, will_go_count, requested_by, requesters, request_reason, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8, now() + $9::int * interval '1 hour')
ON CONFLICT (tenant_id, campaign_id) WHERE state IN ('waiting', 'approved') DO NOTHING RETURNING id;

-- name: approval_waiting :one
-- The request of a campaign that waits for an answer, held for it.
SELECT id, digest, member_count, requested_by, requesters::text AS requesters, expires_at <= now() AS is_expired FROM campaign_approvals
WHERE tenant_id = $1 AND campaign_id = $2 AND state = 'waiting' FOR UPDATE;

-- name: approval_decide :run
-- Keep the answer.
UPDATE campaign_approvals SET state = $3, decided_by = $4, decided_at = now(), decision_reason = $5 WHERE tenant_id = $1 AND id = $2;

-- name: approval_close :value
-- End what is asked for or given, as `$3`.
UPDATE campaign_approvals SET state = $3 WHERE tenant_id = $1 AND campaign_id = $2 AND state IN ('waiting', 'approved') RETURNING id;

-- name: approval_latest :one
-- The newest request of a campaign.
SELECT state, digest, member_count, expires_at, requested_by, decided_by, decision_reason FROM campaign_approvals
WHERE tenant_id = $1 AND campaign_id = $2 ORDER BY requested_at DESC, id DESC LIMIT 1;

-- name: approval_get :one
-- One request.
SELECT a.id, a.campaign_id, c.name AS campaign_name, CASE WHEN a.state = 'waiting' AND a.expires_at <= now() THEN 'expired' ELSE a.state END AS state,
       a.member_count, a.will_go_count, a.requested_by, a.requested_at, a.request_reason, a.expires_at, a.decided_by, a.decided_at, a.decision_reason
FROM campaign_approvals a JOIN campaigns c ON c.tenant_id = a.tenant_id AND c.id = a.campaign_id
WHERE a.tenant_id = $1 AND a.id = $2;

-- name: approvals_page :many
-- Requests, newest first, before `$2`; `$4` of one campaign, `$5` in this state.
SELECT * FROM (
  SELECT a.id, a.campaign_id, c.name AS campaign_name, CASE WHEN a.state = 'waiting' AND a.expires_at <= now() THEN 'expired' ELSE a.state END AS state,
         a.member_count, a.will_go_count, a.requested_by, a.requested_at, a.request_reason, a.expires_at, a.decided_by, a.decided_at, a.decision_reason
  FROM campaign_approvals a JOIN campaigns c ON c.tenant_id = a.tenant_id AND c.id = a.campaign_id
  WHERE a.tenant_id = $1 AND a.id < $2 AND ($4::uuid IS NULL OR a.campaign_id = $4)
) t WHERE $5::text IS NULL OR state = $5 ORDER BY id DESC LIMIT $3;

-- name: sender_version :value
-- Which version of a sender there is.
SELECT version FROM senders WHERE tenant_id = $1 AND id = $2;

-- name: own_gates :value
-- The settings of gates that a campaign has for itself, as one text; nothing when it follows its tenant.
SELECT settings::text FROM campaign_gates WHERE tenant_id = $1 AND campaign_id = $2;

-- name: makers_of_key :many
-- Who made a key, and who made the keys of that name, and so on.
WITH RECURSIVE makers AS (
  SELECT created_by FROM api_keys WHERE tenant_id = $1 AND id = $2
  UNION SELECT k.created_by FROM api_keys k JOIN makers m ON k.tenant_id = $1 AND k.name = m.created_by
)
SELECT created_by FROM makers;

-- name: retry_root :one
-- The campaign a retry is asked of, or the one that itself is a retry of, held; `$3`: how many days messages are kept.
SELECT c.id, c.name, c.state, c.sender_id, c.expires_at <= now() AS is_expired, c.launched_at < now() - $3::int * interval '1 day' AS is_forgotten,
       (SELECT s.archived_at IS NOT NULL FROM senders s WHERE s.tenant_id = c.tenant_id AND s.id = c.sender_id) AS has_no_sender
FROM campaigns c
WHERE c.tenant_id = $1 AND c.id = (SELECT coalesce(k.retry_of, k.id) FROM campaigns k WHERE k.tenant_id = $1 AND k.id = $2) FOR UPDATE OF c;

-- name: root_of :value
-- The campaign that a retry sends again; every other one itself.
SELECT coalesce(retry_of, id) FROM campaigns WHERE tenant_id = $1 AND id = $2;

-- name: family_of :many
-- A campaign and its retries, oldest first.
SELECT id, name, state, expanded_count, no_address_count, expanded_at IS NULL AND state IN ('sending', 'paused') AS is_under_way, launched_at
FROM campaigns WHERE tenant_id = $1 AND (id = $2 OR retry_of = $2) ORDER BY id;

-- name: retry_make :value
-- A retry of a campaign, launched; nothing when the name is taken.
INSERT INTO campaigns (tenant_id, name, channel, purpose, sender_id, content_id, template_id, template_version, list_id, segment_id, exclusions, priority,
                       expires_at, created_by, state, launched_at, lane_id, preflight, retry_of)
SELECT tenant_id, $3, channel, purpose, sender_id, content_id, template_id, template_version, list_id, segment_id, exclusions, priority,
       expires_at, $4, 'sending', now(), NULL, $5::text::jsonb, id
FROM campaigns WHERE tenant_id = $1 AND id = $2
ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id;

-- name: retry_lane :run
-- By which lane a retry is queued.
UPDATE campaigns SET lane_id = $3 WHERE tenant_id = $1 AND id = $2;

-- name: retries_due :many
-- Retries that are not through their campaigns' messages, the one served longest ago first.
-- tenant: none, because it is the directory of the loop that queues them
SELECT tenant_id, id FROM campaigns WHERE state = 'sending' AND retry_of IS NOT NULL AND expanded_at IS NULL ORDER BY greatest(served_at, no_room_at) NULLS FIRST LIMIT 50;

-- name: retry_turn :one
-- Take one retry for one page; another worker's is passed over.
SELECT id, retry_of, channel, lane_id, launched_at, priority, expires_at, expanded_to FROM campaigns
WHERE tenant_id = $1 AND id = $2 AND state = 'sending' AND retry_of IS NOT NULL AND expanded_at IS NULL FOR UPDATE SKIP LOCKED;

-- name: retry_keep :run
-- The checkpoint of a page of a retry; `$3` is null when it is through.
UPDATE campaigns SET expanded_to = coalesce($3, expanded_to), expanded_count = expanded_count + $4, no_address_count = no_address_count + $5,
       served_at = clock_timestamp(), expanded_at = CASE WHEN $3::uuid IS NULL THEN now() END, trouble = NULL, trouble_at = NULL, no_room_at = NULL
WHERE tenant_id = $1 AND id = $2;

-- name: late_count :value
-- How many members were skipped because their local hour had passed.
SELECT late_count FROM campaigns WHERE tenant_id = $1 AND id = $2;
