-- Statements of one batch of an import: what is known is read by arrays, what differs is written by arrays. What a dry run
-- has met before is in import_keys and import_changes; a real import finds it in the tables themselves. A look-up by array is
-- a LATERAL with LIMIT or OFFSET 0: the planner cannot turn it around and read a table that has grown since it planned.

-- name: plan_by_index :run
-- For this transaction, look everything up by its index: a batch is small, and a plan made for an empty database and
-- kept must not scan a million contacts later.
-- tenant: none, because it names no table
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true);

-- name: owners :many
-- Whose these addresses are, and what is known of them.
SELECT t.address, c.*
FROM unnest($3::text[]) t(address)
CROSS JOIN LATERAL (SELECT contact_id FROM addresses WHERE tenant_id = $1 AND channel = $2 AND address = t.address LIMIT 1) a
CROSS JOIN LATERAL (SELECT id, external_id, name, attributes::text AS attributes, timezone, locale, updated_at FROM contacts
                    WHERE tenant_id = $1 AND id = a.contact_id LIMIT 1) c;

-- name: holders :many
-- Who has these external ids.
SELECT c.*
FROM unnest($2::text[]) t(external_id)
CROSS JOIN LATERAL (SELECT id, external_id, name, attributes::text AS attributes, timezone, locale, updated_at FROM contacts
                    WHERE tenant_id = $1 AND external_id = t.external_id LIMIT 1) c;

-- name: contacts_now :many
-- Contacts as they are now.
SELECT c.* FROM unnest($2::uuid[]) t(id)
CROSS JOIN LATERAL (SELECT id, external_id, name, attributes::text AS attributes, timezone, locale, updated_at FROM contacts
                    WHERE tenant_id = $1 AND id = t.id LIMIT 1) c;

-- name: lock_contacts :many
-- Contacts that are to be changed, as they are now, held in one order.
SELECT id, external_id, name, attributes::text AS attributes, timezone, locale, created_at, updated_at FROM contacts
WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) ORDER BY id FOR UPDATE;

-- name: keys_met :many
-- What a dry run has met before.
SELECT t.key, k.contact_id FROM unnest($3::text[]) t(key)
CROSS JOIN LATERAL (SELECT contact_id FROM import_keys WHERE tenant_id = $1 AND import_id = $2 AND key = t.key LIMIT 1) k;

-- name: keys_add :run
-- Remember what a dry run has met.
INSERT INTO import_keys (tenant_id, import_id, key, contact_id)
SELECT $1, $2, t.key, t.contact_id FROM unnest($3::text[], $4::uuid[]) t(key, contact_id) ON CONFLICT DO NOTHING;

-- name: changes_of :many
-- What this import has done to these contacts already.
SELECT c.* FROM unnest($3::uuid[]) t(id)
CROSS JOIN LATERAL (SELECT contact_id, line, address, is_new, before::text AS before, after::text AS after FROM import_changes
                    WHERE tenant_id = $1 AND import_id = $2 AND contact_id = t.id LIMIT 1) c;

-- name: tags_held :many
-- The tags that these contacts have already.
SELECT g.* FROM unnest($2::uuid[]) t(id)
CROSS JOIN LATERAL (SELECT contact_id, tag FROM contact_tags WHERE tenant_id = $1 AND contact_id = t.id OFFSET 0) g;

-- name: members_among :many
-- Who of these is on the list, or turned it off.
SELECT m.contact_id FROM unnest($3::uuid[]) t(id)
CROSS JOIN LATERAL ((SELECT contact_id FROM list_members WHERE tenant_id = $1 AND list_id = $2 AND contact_id = t.id)
                    UNION ALL -- whoever turned it off is not put on it by a file
                    (SELECT contact_id FROM list_refusals WHERE tenant_id = $1 AND contact_id = t.id AND list_id = $2) LIMIT 1) m;

-- name: consents_held :many
-- The consent that holds for these contacts.
SELECT c.* FROM unnest($2::uuid[]) t(id)
CROSS JOIN LATERAL (SELECT contact_id, status, at, source FROM consents
                    WHERE tenant_id = $1 AND contact_id = t.id AND channel = $3 AND purpose = $4 LIMIT 1) c;

-- name: count_suppressed :value
-- How many of these addresses must not be contacted; it stays so.
SELECT count(*) FROM unnest($2::text[]) t(address)
CROSS JOIN LATERAL (SELECT 1 FROM suppressions p WHERE p.tenant_id IN ($1, '00000000-0000-0000-0000-000000000000') AND p.channel = $3
                      AND p.address_hash = sha256(convert_to(t.address, 'UTF8')) LIMIT 1) held;

-- name: mint_ids :many
-- New ids, in rising order.
-- tenant: none, because it names no table
SELECT outrider_id() AS id FROM generate_series(1, $1::int);

-- name: make_contacts :run
-- Make the new contacts.
INSERT INTO contacts (tenant_id, id, external_id, name, attributes, timezone, locale)
SELECT $1, t.id, t.external_id, t.name, t.attributes::jsonb, t.timezone, t.locale
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) t(id, external_id, name, attributes, timezone, locale);

-- name: change_contacts :run
-- Change known contacts, which are held: found by id first, so that no plan can turn it around.
UPDATE contacts c SET external_id = t.external_id, name = t.name, attributes = t.attributes::jsonb, timezone = t.timezone, locale = t.locale, updated_at = now()
FROM (SELECT n.*, held.place
      FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) n(id, external_id, name, attributes, timezone, locale)
      CROSS JOIN LATERAL (SELECT ctid AS place FROM contacts WHERE tenant_id = $1 AND id = n.id LIMIT 1) held) t
WHERE c.tenant_id = $1 AND c.ctid = t.place;

-- name: give_addresses :run
-- Give contacts their new addresses; a conflict with another transaction repeats the batch.
INSERT INTO addresses (tenant_id, channel, address, contact_id)
SELECT $1, $2, t.address, t.contact_id FROM unnest($3::text[], $4::uuid[]) t(address, contact_id);

-- name: give_tags :run
-- Give contacts the tags their rows tell.
INSERT INTO contact_tags (tenant_id, contact_id, tag)
SELECT $1, t.contact_id, t.tag FROM unnest($2::uuid[], $3::text[]) t(contact_id, tag) ON CONFLICT DO NOTHING;

-- name: give_membership :run
-- Put contacts on the list.
INSERT INTO list_members (tenant_id, list_id, contact_id)
SELECT $1, $2, t.id FROM unnest($3::uuid[]) t(id) ON CONFLICT DO NOTHING;

-- name: say_consent :many
-- Record the consent that rows assert, with its proof; what somebody withdrew is never granted again by a file. Gives for whom it was new.
WITH changed AS (
  INSERT INTO consents (tenant_id, contact_id, channel, purpose, status, source)
  SELECT $1, t.contact_id, $2, $3, t.status, $4 FROM unnest($5::uuid[], $6::text[]) t(contact_id, status)
  ON CONFLICT (tenant_id, contact_id, channel, purpose) DO UPDATE SET status = excluded.status, at = now(), source = excluded.source
  WHERE consents.status = 'granted' AND excluded.status = 'withdrawn'
  RETURNING contact_id, status
)
INSERT INTO consent_events (tenant_id, contact_id, channel, purpose, status, source)
SELECT $1, contact_id, $2, $3, status, $4 FROM changed RETURNING contact_id;

-- name: keep_changes :run
-- Keep what was done to contacts, or would be; what was there before the import stays as it was first seen.
INSERT INTO import_changes (tenant_id, import_id, contact_id, line, address, is_new, before, after)
SELECT $1, $2, t.contact_id, t.line, t.address, t.is_new, t.before::jsonb, t.after::jsonb
FROM unnest($3::uuid[], $4::bigint[], $5::text[], $6::boolean[], $7::text[], $8::text[]) t(contact_id, line, address, is_new, before, after)
ON CONFLICT (tenant_id, import_id, contact_id) DO UPDATE SET before = excluded.before, after = excluded.after, at = now();
