-- Statements of contacts, consent, do-not-contact and lists. Those of imports are in imports.sql.

-- name: insert_contact :one
-- Make a contact; nothing when the external id is taken.
INSERT INTO contacts (tenant_id, external_id, name, attributes, timezone, locale)
VALUES ($1, $2, $3, $4::text::jsonb, $5, $6)
ON CONFLICT (tenant_id, external_id) DO NOTHING
RETURNING id;

-- name: update_contact :value
-- Change the fields of a contact; the row lock makes two changes follow one another.
UPDATE contacts SET external_id = $3, name = $4, attributes = $5::text::jsonb, timezone = $6, locale = $7, updated_at = now()
WHERE tenant_id = $1 AND id = $2 RETURNING id;

-- name: lock_contact :one
-- A contact as it is, held for a change.
SELECT id, external_id, name, attributes::text AS attributes, timezone, locale FROM contacts
WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- name: external_id_owner :value
-- Whose external id this is.
SELECT id FROM contacts WHERE tenant_id = $1 AND external_id = $2;

-- name: insert_address :value
-- Give a contact an address; nothing when somebody has it.
INSERT INTO addresses (tenant_id, channel, address, contact_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, channel, address) DO NOTHING RETURNING address;

-- name: address_owner :value
-- Whose address this is.
SELECT contact_id FROM addresses WHERE tenant_id = $1 AND channel = $2 AND address = $3;

-- name: delete_address :value
-- Take an address from a contact.
DELETE FROM addresses WHERE tenant_id = $1 AND channel = $2 AND address = $3 AND contact_id = $4 RETURNING address;

-- name: contacts_by_id :many
-- Contacts with their addresses and the consent that holds, by id.
SELECT c.id, c.external_id, c.name, c.attributes::text AS attributes, c.timezone, c.locale, c.created_at, c.updated_at,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('channel', a.channel, 'address', a.address) ORDER BY a.channel, a.created_at, a.address), '[]')::text
        FROM addresses a WHERE a.tenant_id = c.tenant_id AND a.contact_id = c.id) AS addresses,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('channel', s.channel, 'purpose', s.purpose, 'status', s.status, 'at', s.at, 'source', s.source)
                                  ORDER BY s.channel, s.purpose), '[]')::text
        FROM consents s WHERE s.tenant_id = c.tenant_id AND s.contact_id = c.id) AS consents,
       ARRAY(SELECT t.tag FROM contact_tags t WHERE t.tenant_id = c.tenant_id AND t.contact_id = c.id ORDER BY t.tag) AS tags
FROM contacts c WHERE c.tenant_id = $1 AND c.id = ANY ($2::uuid[]) ORDER BY c.id;

-- name: contact_ids :many
-- Ids of contacts in the order they were made, after `$2`.
SELECT id FROM contacts WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3;

-- name: consent_now :one
-- The consent that holds, held for a change.
SELECT status, at, source FROM consents
WHERE tenant_id = $1 AND contact_id = $2 AND channel = $3 AND purpose = $4 FOR UPDATE;

-- name: consent_held :value
-- The status of the consent that holds.
SELECT status FROM consents WHERE tenant_id = $1 AND contact_id = $2 AND channel = $3 AND purpose = $4;

-- name: set_consent :value
-- Write the consent that holds from now on; nothing when it held already, or when a grant without proof meets a withdrawal.
INSERT INTO consents (tenant_id, contact_id, channel, purpose, status, source) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, contact_id, channel, purpose) DO UPDATE SET status = excluded.status, at = now(), source = excluded.source
WHERE consents.status <> excluded.status AND (excluded.status = 'withdrawn' OR $7::boolean)
RETURNING status;

-- name: own_withdrawal :value
-- Let a withdrawal that holds by another's word be the recipient's own; nothing when it is.
UPDATE consents SET source = $5 WHERE tenant_id = $1 AND contact_id = $2 AND channel = $3 AND purpose = $4 AND source <> $5 RETURNING status;

-- name: add_consent_event :run
-- Append to the proof of consent.
INSERT INTO consent_events (tenant_id, contact_id, channel, purpose, status, source, ip, text_shown, form_version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: consent_events_of :many
-- The proof of consent of one contact, oldest first.
SELECT channel, purpose, status, at, source, ip, text_shown, form_version FROM consent_events
WHERE tenant_id = $1 AND contact_id = $2 ORDER BY id LIMIT 1000;

-- name: suppress :many
-- Put addresses on the do-not-contact list, or make their entries stronger; an entry never becomes weaker. `$8` ranks reasons;
-- an entry that would end does so no more when it becomes stronger. One that ends widens none that stays, or what was for a while
-- would be for ever, and one that stays brings its own scope in the place of one that ends. Gives those that are new or became stronger.
-- Locked in the order of channel and hash: whoever lists several addresses in one transaction does so by one call.
INSERT INTO suppressions (tenant_id, channel, address_hash, address, scope, reason, source, note, created_by, expires_at)
SELECT $1, t.channel, sha256(convert_to(t.address, 'UTF8')), t.address, t.scope, t.reason, t.source, t.note, t.created_by, t.expires_at
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $9::text[], $10::timestamptz[])
     t(channel, address, scope, reason, source, created_by, note, expires_at)
ORDER BY 2, 3
ON CONFLICT (tenant_id, channel, address_hash) DO UPDATE SET
  scope = CASE WHEN suppressions.expires_at IS NULL AND excluded.expires_at IS NOT NULL THEN suppressions.scope
               WHEN suppressions.expires_at IS NOT NULL AND excluded.expires_at IS NULL
                    AND array_position($8::text[], excluded.reason) <= coalesce(array_position($8::text[], suppressions.reason), 1000) THEN excluded.scope
               WHEN excluded.scope = 'all' THEN 'all' ELSE suppressions.scope END,
  reason = CASE WHEN array_position($8::text[], excluded.reason) < coalesce(array_position($8::text[], suppressions.reason), 1000)
                THEN excluded.reason ELSE suppressions.reason END,
  expires_at = CASE WHEN array_position($8::text[], excluded.reason) < coalesce(array_position($8::text[], suppressions.reason), 1000) THEN excluded.expires_at
                    WHEN excluded.reason <> suppressions.reason OR suppressions.expires_at IS NULL THEN suppressions.expires_at
                    WHEN excluded.expires_at IS NOT NULL THEN greatest(excluded.expires_at, suppressions.expires_at) END,
  note = CASE WHEN excluded.note <> '' THEN excluded.note ELSE suppressions.note END,
  address = coalesce(suppressions.address, excluded.address)
WHERE (suppressions.scope = 'bulk' AND excluded.scope = 'all' AND (suppressions.expires_at IS NOT NULL OR excluded.expires_at IS NULL))
   OR array_position($8::text[], excluded.reason) < coalesce(array_position($8::text[], suppressions.reason), 1000)
   OR (excluded.note <> '' AND suppressions.note <> excluded.note)
   OR (excluded.expires_at IS NULL AND suppressions.expires_at IS NOT NULL AND excluded.reason = suppressions.reason)
RETURNING channel, address;

-- name: suppressions_expire :many
-- Take away entries whose time is over, `$1` at a time.
-- tenant: none, because one look serves every tenant
DELETE FROM suppressions WHERE expires_at <= now() AND ctid = ANY (ARRAY(
  SELECT ctid FROM suppressions WHERE expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))
RETURNING tenant_id, channel, encode(address_hash, 'hex') AS address_hash, reason;

-- name: tell_suppression :run
-- Tell every process that the do-not-contact list of a tenant (NIL: of all) has grown; delivered at commit.
-- tenant: none, because the notification itself carries the tenant
SELECT pg_notify('outrider_suppression', $1::text);

-- name: lock_suppression :one
-- One entry, held for a change.
SELECT channel, scope, reason, source, note, created_by, created_at FROM suppressions
WHERE tenant_id = $1 AND channel = $2 AND address_hash = sha256(convert_to($3, 'UTF8')) FOR UPDATE;

-- name: unsuppress :value
-- Take an address from the do-not-contact list.
DELETE FROM suppressions WHERE tenant_id = $1 AND channel = $2 AND address_hash = sha256(convert_to($3, 'UTF8')) RETURNING channel;

-- name: suppressions_of :many
-- What stands against an address: the tenant's entry and the installation's.
SELECT tenant_id, channel, encode(address_hash, 'hex') AS address_hash, address, scope, reason, source, note, created_by, created_at, expires_at
FROM suppressions
WHERE tenant_id IN ($1, '00000000-0000-0000-0000-000000000000') AND channel = $2 AND address_hash = sha256(convert_to($3, 'UTF8'))
ORDER BY tenant_id DESC;

-- name: suppressions_page :many
-- The do-not-contact list of a tenant by key, after (`$2`, `$3`); each filter is off when null.
SELECT tenant_id, channel, encode(address_hash, 'hex') AS address_hash, address, scope, reason, source, note, created_by, created_at, expires_at
FROM suppressions
WHERE tenant_id = $1 AND (channel, address_hash) > ($2, $3) AND ($5::text IS NULL OR channel = $5) AND ($6::text IS NULL OR reason = $6)
ORDER BY channel, address_hash LIMIT $4;

-- name: insert_list :one
-- Make a list; nothing when the name is taken.
INSERT INTO lists (tenant_id, name) VALUES ($1, $2) ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id;

-- name: rename_list :value
-- Give a list another name, unless that is taken.
UPDATE lists SET name = $3 WHERE tenant_id = $1 AND id = $2
  AND NOT EXISTS (SELECT FROM lists other WHERE other.tenant_id = $1 AND other.name = $3 AND other.id <> $2)
RETURNING id;

-- name: delete_list :value
-- Delete a list with its memberships; the foreign key of a campaign that names it refuses.
DELETE FROM lists WHERE tenant_id = $1 AND id = $2 RETURNING name;

-- name: list_get :one
-- One list with the number of its members.
SELECT l.id, l.name, l.created_at,
       (SELECT count(*) FROM list_members m WHERE m.tenant_id = l.tenant_id AND m.list_id = l.id) AS member_count
FROM lists l WHERE l.tenant_id = $1 AND l.id = $2;

-- name: lists_page :many
-- Lists in the order they were made, after `$2`, with the number of their members.
SELECT l.id, l.name, l.created_at,
       (SELECT count(*) FROM list_members m WHERE m.tenant_id = l.tenant_id AND m.list_id = l.id) AS member_count
FROM lists l WHERE l.tenant_id = $1 AND l.id > $2 ORDER BY l.id LIMIT $3;

-- name: add_members :many
-- Put existing contacts on a list, but for those who turned it off; gives those who are new on it.
INSERT INTO list_members (tenant_id, list_id, contact_id)
SELECT $1, $2, c.id FROM contacts c WHERE c.tenant_id = $1 AND c.id = ANY ($3::uuid[])
  AND NOT EXISTS (SELECT FROM list_refusals r WHERE r.tenant_id = c.tenant_id AND r.contact_id = c.id AND r.list_id = $2)
ON CONFLICT DO NOTHING RETURNING contact_id;

-- name: known_contacts :many
-- Which of these contacts exist; what they turn off meanwhile waits for this, or is seen by the next statement.
SELECT id FROM contacts WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) ORDER BY id FOR KEY SHARE;

-- name: remove_members :many
-- Take contacts off a list; gives those who were on it.
DELETE FROM list_members WHERE tenant_id = $1 AND list_id = $2 AND contact_id = ANY ($3::uuid[]) RETURNING contact_id;

-- name: members_page :many
-- Members of a list by contact id, after `$3`.
SELECT contact_id, added_at FROM list_members WHERE tenant_id = $1 AND list_id = $2 AND contact_id > $3 ORDER BY contact_id LIMIT $4;

-- name: imports_purge :run
-- Drop import records (their row errors with them) older than `$1` days.
-- tenant: none, because retention is the installation's
DELETE FROM imports WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM imports WHERE finished_at < now() - $1 * interval '1 day' LIMIT $2));
