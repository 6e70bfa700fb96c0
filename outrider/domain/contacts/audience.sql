-- Statements of tags, of the tenant's typed attributes and of merging two contacts.

-- name: define_attribute :one
-- Say what an attribute holds, or change it; gives whether it is new.
INSERT INTO attribute_definitions (tenant_id, key, type, label, choices, created_by) VALUES ($1, $2, $3, $4, $5::text::jsonb, $6)
ON CONFLICT (tenant_id, key) DO UPDATE SET type = excluded.type, label = excluded.label, choices = excluded.choices
RETURNING xmax = 0 AS is_new;

-- name: lock_definition :value
-- The type an attribute has, held for a change.
SELECT type FROM attribute_definitions WHERE tenant_id = $1 AND key = $2 FOR UPDATE;

-- name: forget_attribute :value
-- Take a definition away; the values stay with the contacts.
DELETE FROM attribute_definitions WHERE tenant_id = $1 AND key = $2 RETURNING key;

-- name: definitions :many
-- What the tenant's attributes hold, by key.
SELECT key, type, label, choices::text AS choices, created_by, created_at FROM attribute_definitions WHERE tenant_id = $1 ORDER BY key;

-- name: values_of_attribute :many
-- Different values of an attribute and how many contacts have each, the most frequent first.
SELECT attributes -> $2::text #>> '{}' AS value, jsonb_typeof(attributes -> $2::text) AS type, count(*) AS contact_count
FROM contacts WHERE tenant_id = $1 AND attributes -> $2::text IS NOT NULL GROUP BY 1, 2 ORDER BY 3 DESC, 1 LIMIT $3;

-- name: add_tags :many
-- Give existing contacts tags; gives the pairs that are new.
INSERT INTO contact_tags (tenant_id, contact_id, tag)
SELECT $1, c.id, t.tag FROM contacts c CROSS JOIN unnest($3::text[]) t(tag) WHERE c.tenant_id = $1 AND c.id = ANY ($2::uuid[])
ORDER BY c.id, t.tag ON CONFLICT DO NOTHING RETURNING contact_id;

-- name: remove_tags :many
-- Take tags from contacts; gives whose.
DELETE FROM contact_tags WHERE tenant_id = $1 AND contact_id = ANY ($2::uuid[]) AND tag = ANY ($3::text[]) RETURNING contact_id;

-- name: most_tags :value
-- The most tags that one of these contacts has.
SELECT max(n) FROM (SELECT count(*) AS n FROM contact_tags WHERE tenant_id = $1 AND contact_id = ANY ($2::uuid[]) GROUP BY contact_id) t;

-- name: tags_page :many
-- Tags by name after `$2`, with the number of contacts that have them.
SELECT tag, count(*) AS contact_count FROM contact_tags WHERE tenant_id = $1 AND tag > $2 GROUP BY tag ORDER BY tag LIMIT $3;

-- name: delete_tag :run
-- Take a tag from everybody.
DELETE FROM contact_tags WHERE tenant_id = $1 AND tag = $2;

-- name: lock_both :many
-- Two contacts to be made one, held in one order.
SELECT id, external_id, name, attributes::text AS attributes, timezone, locale, created_at FROM contacts
WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) ORDER BY id FOR UPDATE;

-- name: move_addresses :many
-- Give every address of `$3` to `$2`.
UPDATE addresses SET contact_id = $2 WHERE tenant_id = $1 AND contact_id = $3 RETURNING channel, address;

-- name: move_memberships :run
-- Put `$2` on every list that `$3` is on.
INSERT INTO list_members (tenant_id, list_id, contact_id, added_at)
SELECT $1, list_id, $2, added_at FROM list_members WHERE tenant_id = $1 AND contact_id = $3 ON CONFLICT DO NOTHING;

-- name: move_tags :run
-- Give `$2` every tag that `$3` has.
INSERT INTO contact_tags (tenant_id, contact_id, tag, added_at)
SELECT $1, $2, tag, added_at FROM contact_tags WHERE tenant_id = $1 AND contact_id = $3 ON CONFLICT DO NOTHING;

-- name: consents_of_two :many
-- The consent that holds for two contacts, held for a change.
SELECT contact_id, channel, purpose, status, at, source FROM consents WHERE tenant_id = $1 AND contact_id = ANY ($2::uuid[])
ORDER BY contact_id, channel, purpose FOR UPDATE;

-- name: move_proof :run
-- Let the proof of consent of `$3` speak for `$2`.
UPDATE consent_events SET contact_id = $2 WHERE tenant_id = $1 AND contact_id = $3;

-- name: write_consent :run
-- What holds for a merged contact.
INSERT INTO consents (tenant_id, contact_id, channel, purpose, status, at, source) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant_id, contact_id, channel, purpose) DO UPDATE SET status = excluded.status, at = excluded.at, source = excluded.source;

-- name: drop_consents :run
-- Forget the consent of a contact that is no more; its proof was moved or is dropped by the caller.
DELETE FROM consents WHERE tenant_id = $1 AND contact_id = $2;

-- name: drop_proof :run
-- Forget the proof of consent of a person who was erased.
DELETE FROM consent_events WHERE tenant_id = $1 AND contact_id = ANY ($2::uuid[]);

-- name: delete_contact :value
-- Delete a contact with addresses, memberships and tags.
DELETE FROM contacts WHERE tenant_id = $1 AND id = $2 RETURNING id;

-- name: keep_merge :run
-- Remember that one contact became another, and what became it before.
WITH earlier AS (
  UPDATE contact_merges SET contact_id = $2 WHERE tenant_id = $1 AND contact_id = $3
)
INSERT INTO contact_merges (tenant_id, merged_id, contact_id, merged_by) VALUES ($1, $3, $2, $4);

-- name: merges_of :many
-- Which contacts became this one.
SELECT merged_id, merged_by, merged_at FROM contact_merges WHERE tenant_id = $1 AND contact_id = $2 ORDER BY merged_at;

-- name: addresses_of :many
-- The addresses of a contact.
SELECT channel, address, created_at FROM addresses WHERE tenant_id = $1 AND contact_id = $2 ORDER BY channel, created_at, address;

-- name: memberships_of :many
-- The lists a contact is on.
SELECT l.id, l.name, m.added_at FROM list_members m JOIN lists l ON l.tenant_id = m.tenant_id AND l.id = m.list_id
WHERE m.tenant_id = $1 AND m.contact_id = $2 ORDER BY l.id;

-- name: tags_of :many
-- The tags of a contact.
SELECT tag, added_at FROM contact_tags WHERE tenant_id = $1 AND contact_id = $2 ORDER BY tag;

-- name: suppress_hash :run
-- Keep the promise not to write to an address of which only the hash may stay.
INSERT INTO suppressions (tenant_id, channel, address_hash, scope, reason, source, created_by) VALUES ($1, $2, $3, 'all', 'erased', $4, $5)
ON CONFLICT (tenant_id, channel, address_hash) DO UPDATE SET scope = 'all', address = NULL, note = '', expires_at = NULL,
  reason = CASE WHEN suppressions.expires_at IS NULL THEN suppressions.reason ELSE 'erased' END;

-- name: blank_import_errors :run
-- Blank what refused rows quoted of a person.
UPDATE import_errors SET value = '', message = 'erased with the person it named' WHERE tenant_id = $1
  AND EXISTS (SELECT 1 FROM unnest($2::text[]) AS t(address) WHERE strpos(lower(value), lower(t.address)) > 0 OR strpos(lower(message), lower(t.address)) > 0);
