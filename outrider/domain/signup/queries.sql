-- Statements of sign-up forms and of who filled them in.

-- name: insert_form :value
-- Make a form; nothing when the name is taken.
INSERT INTO signup_forms (tenant_id, name, title, intro, consent_text, purpose, sender_id, asks_name, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id;

-- name: form_lock :value
-- A form, held for a change.
SELECT id FROM signup_forms WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- name: update_form :value
-- Write a form anew; `$11` says whether people see something else now, so that its version rises.
UPDATE signup_forms SET name = $3, title = $4, intro = $5, consent_text = $6, purpose = $7, sender_id = $8, asks_name = $9, is_open = $10,
  version = version + $11::int, updated_at = now()
WHERE tenant_id = $1 AND id = $2 RETURNING id;

-- name: form_clear_lists :run
-- Take every list off a form.
DELETE FROM signup_form_lists WHERE tenant_id = $1 AND form_id = $2;

-- name: form_put_lists :many
-- Put lists that are on offer on a form; gives those it has now.
INSERT INTO signup_form_lists (tenant_id, form_id, list_id)
SELECT o.tenant_id, $2, o.list_id FROM list_offers o WHERE o.tenant_id = $1 AND o.list_id = ANY ($3::uuid[]) RETURNING list_id;

-- name: delete_form :value
-- Delete a form with what waits for a confirmation of it.
DELETE FROM signup_forms WHERE tenant_id = $1 AND id = $2 RETURNING name;

-- name: forms_page :many
-- Forms with their lists and how many signed up within retention, in the order they were made, after `$2`; or those named in `$4`.
SELECT f.id, f.name, f.title, f.intro, f.consent_text, f.purpose, f.sender_id, f.asks_name, f.is_open, f.version, f.created_by, f.created_at,
       f.updated_at,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('list_id', o.list_id, 'title', o.title, 'description', o.description)
                                  ORDER BY o.place, o.title, o.list_id), '[]')::text
        FROM signup_form_lists l JOIN list_offers o ON o.tenant_id = l.tenant_id AND o.list_id = l.list_id
        WHERE l.tenant_id = f.tenant_id AND l.form_id = f.id) AS lists,
       c.waiting_count, c.confirmed_count
FROM signup_forms f CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE s.state = 'waiting') AS waiting_count, count(*) FILTER (WHERE s.state = 'confirmed') AS confirmed_count
  FROM signups s WHERE s.tenant_id = f.tenant_id AND s.form_id = f.id) c
WHERE f.tenant_id = $1 AND f.id > $2 AND ($4::uuid[] IS NULL OR f.id = ANY ($4)) ORDER BY f.id LIMIT $3;

-- name: sender_named :many
-- A sender in use, by id or name; the only one for mail when `$2` is null.
SELECT id FROM senders
WHERE tenant_id = $1 AND channel = $3 AND archived_at IS NULL AND ($2::text IS NULL OR id::text = $2 OR name = $2) ORDER BY created_at LIMIT 2;

-- name: address_turn :run
-- One sign-up or confirmation of an address at a time, until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('signup ' || $1::uuid::text || encode($2::bytea, 'hex'), 0));

-- name: expire_waiting :run
-- Close what waited too long for a confirmation, so that the form can be filled in anew.
UPDATE signups SET state = 'expired', settled_at = now()
WHERE tenant_id = $1 AND form_id = $2 AND address_hash = $3 AND state = 'waiting' AND expires_at <= now();

-- name: keep_waiting :one
-- Keep who filled a form in; once more before the confirmation takes the place of what was filled in first.
INSERT INTO signups (tenant_id, form_id, form_version, address_hash, address, name, list_ids, text_shown, source, ip, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8, $9, $10, now() + $11 * interval '1 hour')
ON CONFLICT (tenant_id, form_id, address_hash) WHERE state = 'waiting' DO UPDATE SET
  form_version = excluded.form_version, name = excluded.name, list_ids = excluded.list_ids, text_shown = excluded.text_shown,
  source = excluded.source, ip = excluded.ip
RETURNING id;

-- name: mails_to :one
-- How many confirmations an address was asked for within a day, and whether one within the last minutes (`$3`).
SELECT coalesce(sum(mail_count), 0) AS mails, coalesce(bool_or(mailed_at > now() - $3 * interval '1 minute'), false) AS is_recent
FROM signups WHERE tenant_id = $1 AND address_hash = $2 AND mailed_at > now() - interval '1 day';

-- name: mails_of_hour :value
-- How many confirmations a tenant asked for within an hour.
SELECT count(*) FROM signups WHERE tenant_id = $1 AND mailed_at > now() - interval '1 hour';

-- name: mailed :run
-- A confirmation was asked for by mail; its link works as long as the mail says, however old the sign-up is.
UPDATE signups SET mail_count = mail_count + 1, mailed_at = now(), expires_at = now() + $3 * interval '1 hour' WHERE tenant_id = $1 AND id = $2;

-- name: signup_get :one
-- What a link of a confirmation is about.
SELECT s.id, s.form_id, s.form_version, s.address, s.address_hash, s.name, s.list_ids::text AS list_ids, s.text_shown, s.source, s.ip, s.state,
       s.created_at, s.expires_at <= now() AS is_late, f.title, f.purpose, f.sender_id
FROM signups s JOIN signup_forms f ON f.tenant_id = s.tenant_id AND f.id = s.form_id WHERE s.tenant_id = $1 AND s.id = $2;

-- name: signup_settle :value
-- Say how a sign-up ended; nothing when it ended before.
UPDATE signups SET state = $3, settled_at = now() WHERE tenant_id = $1 AND id = $2 AND state = 'waiting' RETURNING id;

-- name: signups_of_person :many
-- What was filled in under addresses of a person after `$3`, at most `$4`.
SELECT s.id, f.title AS form, s.form_version, s.address, s.name, s.list_ids::text AS list_ids, s.text_shown, s.source, s.ip, s.state, s.mail_count,
       s.mailed_at, s.created_at, s.expires_at, s.settled_at
FROM signups s JOIN signup_forms f ON f.tenant_id = s.tenant_id AND f.id = s.form_id
WHERE s.tenant_id = $1 AND s.address_hash = ANY ($2::bytea[]) AND s.id > $3 ORDER BY s.id LIMIT $4;

-- name: forget_signups :run
-- Delete what was filled in under addresses of a person who is forgotten.
DELETE FROM signups WHERE tenant_id = $1 AND address_hash = ANY ($2::bytea[]);

-- name: signups_purge :run
-- Drop sign-ups that ended, or could not be confirmed any more, `$1` days ago; the proof of a consent stays where consent is kept.
-- tenant: none, because retention is the installation's
DELETE FROM signups WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM signups WHERE coalesce(settled_at, expires_at) < now() - $1 * interval '1 day' LIMIT $2));
