-- Statements that undo an import: what it changed is compared with what is now, contact by contact, in pages.

-- name: undo_counts :one
-- How many contacts of an import are not undone yet: those it made, and those it changed.
SELECT count(*) FILTER (WHERE is_new) AS new_count, count(*) FILTER (WHERE NOT is_new) AS known_count
FROM import_changes WHERE tenant_id = $1 AND import_id = $2 AND outcome IS NULL;

-- name: undo_begin :value
-- Begin to undo an import, or begin again; nothing while it is being undone.
UPDATE imports SET undo_state = 'running', undo_job_id = NULL
WHERE tenant_id = $1 AND id = $2 AND state <> 'running' AND NOT is_dry_run AND undo_state IS DISTINCT FROM 'running' RETURNING id;

-- name: undo_job :run
-- Which job undoes it.
UPDATE imports SET undo_job_id = $3 WHERE tenant_id = $1 AND id = $2;

-- name: undo_end :value
-- Bring an undo to its end.
UPDATE imports SET undo_state = $3 WHERE tenant_id = $1 AND id = $2 AND undo_state = 'running' RETURNING id;

-- name: undo_lock :value
-- First lock of every page: is it still to be undone?
SELECT undo_state FROM imports WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- name: undo_page :many
-- The next changes that are not undone.
SELECT contact_id, is_new, before::text AS before, after::text AS after, at FROM import_changes
WHERE tenant_id = $1 AND import_id = $2 AND contact_id > $3 AND outcome IS NULL ORDER BY contact_id LIMIT $4;

-- name: addresses_now :many
-- The addresses of these contacts.
SELECT a.* FROM unnest($2::uuid[]) t(id)
CROSS JOIN LATERAL (SELECT contact_id, channel, address FROM addresses WHERE tenant_id = $1 AND contact_id = t.id OFFSET 0) a;

-- name: tags_now :many
-- The tags of these contacts.
SELECT g.* FROM unnest($2::uuid[]) t(id)
CROSS JOIN LATERAL (SELECT contact_id, tag, added_at FROM contact_tags WHERE tenant_id = $1 AND contact_id = t.id OFFSET 0) g;

-- name: lists_now :many
-- The lists that these contacts are on.
SELECT m.* FROM unnest($2::uuid[]) t(id)
CROSS JOIN LATERAL (SELECT contact_id, list_id, added_at FROM list_members WHERE tenant_id = $1 AND contact_id = t.id OFFSET 0) m;

-- name: consents_now :many
-- The consent that holds for these contacts, held for a change.
SELECT contact_id, channel, purpose, status, at, source FROM consents WHERE tenant_id = $1 AND contact_id = ANY ($2::uuid[])
ORDER BY contact_id, channel, purpose FOR UPDATE;

-- name: said_last :many
-- When something was last said about the consent of these contacts.
SELECT t.id AS contact_id, e.at FROM unnest($2::uuid[]) t(id)
CROSS JOIN LATERAL (SELECT max(at) AS at FROM consent_events WHERE tenant_id = $1 AND contact_id = t.id) e WHERE e.at IS NOT NULL;

-- name: suppressed_last :many
-- Since when these addresses must not be contacted.
SELECT t.channel, t.address, p.created_at FROM unnest($2::text[], $3::text[]) t(channel, address)
CROSS JOIN LATERAL (SELECT created_at FROM suppressions WHERE tenant_id = $1 AND channel = t.channel
                      AND address_hash = sha256(convert_to(t.address, 'UTF8')) LIMIT 1) p;

-- name: merged_among :many
-- Which of these contacts took others in.
SELECT m.* FROM unnest($2::uuid[]) t(id)
CROSS JOIN LATERAL (SELECT contact_id, merged_at FROM contact_merges WHERE tenant_id = $1 AND contact_id = t.id LIMIT 1) m;

-- name: refusing_among :many
-- Which of these contacts turned a list off: nothing but they themselves remembers that.
SELECT r.* FROM unnest($2::uuid[]) t(id)
CROSS JOIN LATERAL (SELECT contact_id FROM list_refusals WHERE tenant_id = $1 AND contact_id = t.id LIMIT 1) r;

-- name: drop_contacts :run
-- Delete contacts that an import made, with addresses, memberships and tags.
DELETE FROM contacts WHERE tenant_id = $1 AND id = ANY ($2::uuid[]);

-- name: drop_consents_of :run
-- Forget the consent that an import asserted for contacts that it made.
DELETE FROM consents WHERE tenant_id = $1 AND contact_id = ANY ($2::uuid[]);

-- name: drop_proof_of :run
-- And the proof of it: nobody relied on it, and whose it was is no more.
DELETE FROM consent_events WHERE tenant_id = $1 AND contact_id = ANY ($2::uuid[]);

-- name: take_addresses :run
-- Take the addresses from contacts that an import gave them.
DELETE FROM addresses a USING unnest($2::uuid[], $3::text[], $4::text[]) t(contact_id, channel, address)
WHERE a.tenant_id = $1 AND a.channel = t.channel AND a.address = t.address AND a.contact_id = t.contact_id AND a.contact_id = ANY ($2::uuid[]);

-- name: take_tags :run
-- Take the tags from contacts that an import gave them.
DELETE FROM contact_tags g USING unnest($2::uuid[], $3::text[]) t(contact_id, tag)
WHERE g.tenant_id = $1 AND g.contact_id = t.contact_id AND g.tag = t.tag AND g.contact_id = ANY ($2::uuid[]);

-- name: take_memberships :run
-- Take contacts from the lists that an import put them on.
DELETE FROM list_members m USING unnest($2::uuid[], $3::uuid[]) t(contact_id, list_id)
WHERE m.tenant_id = $1 AND m.contact_id = t.contact_id AND m.list_id = t.list_id AND m.contact_id = ANY ($2::uuid[]);

-- name: put_back_consents :run
-- Let hold again what held before an import, or nothing where nothing held; the proof says that it was undone.
WITH told AS (
  SELECT * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[]) t(contact_id, channel, purpose, status, at, source)
), gone AS (
  DELETE FROM consents c USING told t WHERE t.status IS NULL AND c.contact_id = ANY ($2::uuid[])
    AND c.tenant_id = $1 AND c.contact_id = t.contact_id AND c.channel = t.channel AND c.purpose = t.purpose
), back AS (
  UPDATE consents c SET status = t.status, at = t.at, source = t.source FROM told t WHERE t.status IS NOT NULL AND c.contact_id = ANY ($2::uuid[])
    AND c.tenant_id = $1 AND c.contact_id = t.contact_id AND c.channel = t.channel AND c.purpose = t.purpose
)
INSERT INTO consent_events (tenant_id, contact_id, channel, purpose, status, source)
SELECT $1, contact_id, channel, purpose, coalesce(status, 'undone'), $8 FROM told;

-- name: outcomes :run
-- Keep what undoing did to each contact.
UPDATE import_changes c SET outcome = t.outcome, reasons = t.reasons::jsonb
FROM unnest($3::uuid[], $4::text[], $5::text[]) t(contact_id, outcome, reasons)
WHERE c.tenant_id = $1 AND c.import_id = $2 AND c.contact_id = t.contact_id AND c.contact_id = ANY ($3::uuid[]);

-- name: undo_advance :run
-- Count a page, in the transaction that undid it.
UPDATE imports SET restored_count = restored_count + $3, deleted_count = deleted_count + $4, left_count = left_count + $5
WHERE tenant_id = $1 AND id = $2;

-- name: undoing :many
-- Imports that are being undone, over all tenants: their jobs may have ended otherwise.
-- tenant: none, because a process settles what was begun for every tenant
SELECT tenant_id, id, undo_job_id FROM imports WHERE undo_state = 'running' ORDER BY id LIMIT 1000;
