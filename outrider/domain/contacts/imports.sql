-- Statements of imports. Rows are copied into contacts_staging by the engine role and moved from there set by set;
-- `$3` is the checkpoint: only lines beyond it belong to the batch under way.

-- name: insert_import :value
-- Begin an import.
INSERT INTO imports (tenant_id, file_name, sha256, size_bytes, list_id, options, total_count, created_by)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8) RETURNING id;

-- name: find_running :value
-- An import of the same file with the same options that was not brought to its end.
SELECT id FROM imports WHERE tenant_id = $1 AND state = 'running' AND sha256 = $2 AND options = $3::text::jsonb AND list_id IS NOT DISTINCT FROM $4
ORDER BY id DESC LIMIT 1;

-- name: import_get :one
-- One import with its progress.
SELECT id, file_name, encode(sha256, 'hex') AS sha256, size_bytes, list_id, options::text AS options, state, row_count, created_count, updated_count,
       unchanged_count, duplicate_count, rejected_count, suppressed_count, kept_withdrawn_count, total_count, checkpoint_line, error, created_by,
       created_at, progress_at, finished_at
FROM imports WHERE tenant_id = $1 AND id = $2;

-- name: imports_page :many
-- Imports, newest first, before `$2`.
SELECT id, file_name, encode(sha256, 'hex') AS sha256, size_bytes, list_id, options::text AS options, state, row_count, created_count, updated_count,
       unchanged_count, duplicate_count, rejected_count, suppressed_count, kept_withdrawn_count, total_count, checkpoint_line, error, created_by,
       created_at, progress_at, finished_at
FROM imports WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3;

-- name: import_errors_page :many
-- Refused rows of an import, after line and field.
SELECT line, field, code, message, value FROM import_errors
WHERE tenant_id = $1 AND import_id = $2 AND (line, field) > ($3, $4) ORDER BY line, field LIMIT $5;

-- name: running_imports :many
-- Imports that are not finished, over all tenants, to be resumed by whoever has their file.
-- tenant: none, because a process resumes what it was doing for every tenant
SELECT tenant_id, id, progress_at < now() - $1::int * interval '1 second' AS is_abandoned FROM imports WHERE state = 'running' ORDER BY id LIMIT 1000;

-- name: end_import :value
-- Bring a running import to its end.
UPDATE imports SET state = $3, error = $4, finished_at = now(), progress_at = now()
WHERE tenant_id = $1 AND id = $2 AND state = 'running' RETURNING id;

-- name: lock_import :one
-- First lock of every batch: is it still to be done, and from where?
SELECT state, checkpoint_line FROM imports WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- name: plan_by_index :run
-- For this transaction, look everything up by its index: a batch is small, and a plan made for an empty database and
-- kept must not scan a million contacts later.
-- tenant: none, because it names no table
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true);

-- name: plan_each_time :run
-- Plan the next statements anew (`$1` force_custom_plan) or keep their plans again (force_generic_plan).
-- tenant: none, because it names no table
SELECT set_config('plan_cache_mode', $1, true);

-- name: address_owners :many
-- Whose these addresses are.
SELECT address, contact_id FROM addresses WHERE tenant_id = $1 AND channel = $2 AND address = ANY ($3::text[]);

-- name: external_ids :many
-- Contacts by id or by external id, to see which row means whom.
SELECT id, external_id FROM contacts WHERE tenant_id = $1 AND id = ANY ($2::uuid[])
UNION SELECT id, external_id FROM contacts WHERE tenant_id = $1 AND external_id = ANY ($3::text[]);

-- name: mint_ids :many
-- New ids, in rising order.
-- tenant: none, because it names no table
SELECT outrider_id() AS id FROM generate_series(1, $1::int);

-- name: merge_contacts :run
-- Make the new contacts; of several rows the last one says what they are.
INSERT INTO contacts (tenant_id, id, external_id, name, attributes, timezone, locale)
SELECT DISTINCT ON (contact_id) $1, contact_id, external_id, name, attributes, timezone, locale
FROM contacts_staging WHERE tenant_id = $1 AND import_id = $2 AND line > $3 AND state = 3
ORDER BY contact_id, line DESC;

-- name: merge_addresses :run
-- Give new and known contacts their new addresses; a conflict with another transaction repeats the batch.
INSERT INTO addresses (tenant_id, channel, address, contact_id)
SELECT $1, $4, address, contact_id
FROM contacts_staging WHERE tenant_id = $1 AND import_id = $2 AND line > $3 AND state IN (2, 3)
ORDER BY address;

-- name: merge_changes :many
-- Change known contacts where the file says something else; gives which. An empty cell takes nothing away.
WITH told AS (
  SELECT DISTINCT ON (contact_id) contact_id, external_id, name, attributes, timezone, locale
  FROM contacts_staging WHERE tenant_id = $1 AND import_id = $2 AND line > $3 AND state IN (1, 2)
  ORDER BY contact_id, line DESC
)
UPDATE contacts c SET name = coalesce(nullif(t.name, ''), c.name), attributes = c.attributes || t.attributes,
       timezone = coalesce(t.timezone, c.timezone), locale = coalesce(t.locale, c.locale),
       external_id = coalesce(c.external_id, t.external_id), updated_at = now()
FROM told t
WHERE c.tenant_id = $1 AND c.id = t.contact_id
  AND ((t.name <> '' AND t.name <> c.name) OR NOT c.attributes @> t.attributes OR (t.external_id IS NOT NULL AND c.external_id IS NULL)
       OR (t.timezone IS NOT NULL AND t.timezone IS DISTINCT FROM c.timezone) OR (t.locale IS NOT NULL AND t.locale IS DISTINCT FROM c.locale))
RETURNING c.id;

-- name: tags_held :many
-- The tags that these contacts have already.
SELECT contact_id, tag FROM contact_tags WHERE tenant_id = $1 AND contact_id = ANY ($2::uuid[]);

-- name: merge_tags :many
-- Give contacts the tags their rows tell; gives the pairs that are new.
INSERT INTO contact_tags (tenant_id, contact_id, tag)
SELECT $1, t.contact_id, t.tag FROM unnest($2::uuid[], $3::text[]) AS t(contact_id, tag) ORDER BY 2, 3
ON CONFLICT DO NOTHING RETURNING contact_id;

-- name: merge_members :run
-- Put everybody of the batch on the list.
INSERT INTO list_members (tenant_id, list_id, contact_id)
SELECT DISTINCT $1::uuid, $4::uuid, contact_id
FROM contacts_staging WHERE tenant_id = $1 AND import_id = $2 AND line > $3
ORDER BY contact_id
ON CONFLICT DO NOTHING;

-- name: count_kept :value
-- How many of those for whom the batch says granted have withdrawn: that stays.
SELECT count(DISTINCT s.contact_id)
FROM contacts_staging s
CROSS JOIN LATERAL (SELECT status FROM consents c WHERE c.tenant_id = $1 AND c.contact_id = s.contact_id AND c.channel = $4 AND c.purpose = $5 LIMIT 1) held
WHERE s.tenant_id = $1 AND s.import_id = $2 AND s.line > $3 AND s.consent = 'granted' AND held.status = 'withdrawn';

-- name: merge_consents :run
-- Record the consent that rows assert, with its proof; what somebody withdrew is never granted again by a file.
WITH said AS (
  SELECT DISTINCT ON (contact_id) contact_id, consent
  FROM contacts_staging WHERE tenant_id = $1 AND import_id = $2 AND line > $3 AND consent IS NOT NULL
  ORDER BY contact_id, line DESC
), changed AS (
  INSERT INTO consents (tenant_id, contact_id, channel, purpose, status, source)
  SELECT $1, contact_id, $4, $5, consent, $6 FROM said
  ON CONFLICT (tenant_id, contact_id, channel, purpose) DO UPDATE SET status = excluded.status, at = now(), source = excluded.source
  WHERE consents.status = 'granted' AND excluded.status = 'withdrawn'
  RETURNING contact_id, status
)
INSERT INTO consent_events (tenant_id, contact_id, channel, purpose, status, source)
SELECT $1, contact_id, $4, $5, status, $6 FROM changed;

-- name: count_suppressed :value
-- How many rows of the batch have an address that must not be contacted; it stays so.
SELECT count(*)
FROM contacts_staging s
CROSS JOIN LATERAL (SELECT 1 FROM suppressions p
                    WHERE p.tenant_id IN ($1, '00000000-0000-0000-0000-000000000000') AND p.channel = $4
                      AND p.address_hash = sha256(convert_to(s.address, 'UTF8')) LIMIT 1) held
WHERE s.tenant_id = $1 AND s.import_id = $2 AND s.line > $3;

-- name: clear_staging :run
-- Empty the batch's part of the staging table, in the transaction that filled it.
DELETE FROM contacts_staging WHERE tenant_id = $1 AND import_id = $2 AND line > $3;

-- name: add_errors :run
-- Keep why rows were refused.
INSERT INTO import_errors (tenant_id, import_id, line, field, code, message, value)
SELECT $1, $2, line, field, code, message, value
FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[]) AS t(line, field, code, message, value)
ON CONFLICT DO NOTHING;

-- name: advance :run
-- Count a batch and move the checkpoint, in the transaction that stored it.
UPDATE imports SET checkpoint_line = $3, row_count = row_count + $4, created_count = created_count + $5, updated_count = updated_count + $6,
       unchanged_count = unchanged_count + $7, duplicate_count = duplicate_count + $8, rejected_count = rejected_count + $9,
       suppressed_count = suppressed_count + $10, kept_withdrawn_count = kept_withdrawn_count + $11, progress_at = now()
WHERE tenant_id = $1 AND id = $2;
