-- Statements of exports and erasures.

-- name: insert_export :value
-- Record that somebody asked for a file.
INSERT INTO exports (tenant_id, kind, contact_id, options, created_by) VALUES ($1, $2, $3, $4::text::jsonb, $5) RETURNING id;

-- name: export_job :run
-- Which job makes the file.
UPDATE exports SET job_id = $3 WHERE tenant_id = $1 AND id = $2;

-- name: export_get :one
-- One export.
SELECT id, kind, contact_id, options::text AS options, job_id, state, row_count, size_bytes, encode(sha256, 'hex') AS sha256, error, created_by,
       created_at, finished_at, expires_at
FROM exports WHERE tenant_id = $1 AND id = $2;

-- name: exports_page :many
-- Exports, newest first, before `$2`.
SELECT id, kind, contact_id, options::text AS options, job_id, state, row_count, size_bytes, encode(sha256, 'hex') AS sha256, error, created_by,
       created_at, finished_at, expires_at
FROM exports WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3;

-- name: export_begun :value
-- Begin to write a file that is still wanted.
UPDATE exports SET state = 'running', error = NULL WHERE tenant_id = $1 AND id = $2 AND state IN ('waiting', 'running', 'failed') RETURNING id;

-- name: export_done :value
-- The whole file is there and may be fetched; not when its person was erased meanwhile.
UPDATE exports SET state = 'completed', row_count = $3, size_bytes = $4, sha256 = $5, finished_at = now(),
       expires_at = now() + $6::int * interval '1 hour'
WHERE tenant_id = $1 AND id = $2 AND state = 'running' RETURNING id;

-- name: export_failed :run
-- Say why there is no file.
UPDATE exports SET state = 'failed', error = $3, finished_at = now() WHERE tenant_id = $1 AND id = $2 AND state IN ('waiting', 'running');

-- name: erase_exports :many
-- Exports in which a person may be: their own, and those of many people that are not over. Their files go.
UPDATE exports SET state = 'erased', sha256 = NULL, finished_at = coalesce(finished_at, now())
WHERE tenant_id = $1 AND state IN ('waiting', 'running', 'completed', 'failed') AND (contact_id = ANY ($2::uuid[]) OR kind <> 'person')
RETURNING id;

-- name: exports_expired :many
-- Files whose time is over, over all tenants.
-- tenant: none, because a process removes the files of every tenant from its disk
UPDATE exports SET state = 'expired' WHERE state = 'completed' AND expires_at < now() RETURNING tenant_id, id;

-- name: exports_wanted :many
-- Files that are wanted, over all tenants: everything else in the folder may go.
-- tenant: none, because a process removes the files of every tenant from its disk
SELECT tenant_id, id FROM exports WHERE state IN ('waiting', 'running', 'completed');

-- name: exports_purge :run
-- Drop records of exports older than `$1` days, `$2` at a time.
-- tenant: none, because retention is the installation's
DELETE FROM exports WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM exports WHERE created_at < now() - $1 * interval '1 day' AND state IN ('failed', 'expired', 'erased') LIMIT $2));

-- name: insert_erasure :value
-- Record that somebody is to be erased, by ids and hashes alone.
INSERT INTO erasures (tenant_id, contact_ids, addresses, reason, created_by) VALUES ($1, $2::text::jsonb, $3::text::jsonb, $4, $5) RETURNING id;

-- name: erasure_job :run
-- Which job walks the ledger.
UPDATE erasures SET job_id = $3 WHERE tenant_id = $1 AND id = $2;

-- name: erasure_get :one
-- One erasure.
SELECT id, contact_ids::text AS contact_ids, addresses::text AS addresses, state, job_id, checkpoint AS walked_to, message_count, file_count, reason, created_by,
       created_at, finished_at
FROM erasures WHERE tenant_id = $1 AND id = $2;

-- name: erasures_page :many
-- Erasures, newest first, before `$2`.
SELECT id, contact_ids::text AS contact_ids, addresses::text AS addresses, state, job_id, checkpoint AS walked_to, message_count, file_count, reason, created_by,
       created_at, finished_at
FROM erasures WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3;

-- name: erasure_step :run
-- How far the ledger was walked, in the transaction that blanked a page of it.
UPDATE erasures SET state = 'running', checkpoint = $3, message_count = message_count + $4 WHERE tenant_id = $1 AND id = $2;

-- name: erasure_done :run
-- Nothing of the person is left.
UPDATE erasures SET state = 'completed', finished_at = coalesce(finished_at, now()), file_count = file_count + $3 WHERE tenant_id = $1 AND id = $2;

-- name: audit_about :many
-- What the audit log says was done to contacts.
SELECT at, actor, action, reason FROM audit_log WHERE tenant_id = $1 AND target_kind = 'contact' AND target_id = ANY ($2::text[]) ORDER BY seq;

-- name: suppressions_about :many
-- What stands against some addresses.
SELECT s.channel, s.address, s.scope, s.reason, s.source, s.note, s.created_at, s.expires_at, s.tenant_id <> $1 AS is_installation
FROM unnest($2::text[], $3::bytea[]) AS t(channel, hash)
JOIN suppressions s ON s.tenant_id IN ($1, '00000000-0000-0000-0000-000000000000') AND s.channel = t.channel AND s.address_hash = t.hash
ORDER BY s.created_at;

-- name: consent_ledger :many
-- Everything that a contact ever said about a channel and purpose, in the order it was recorded.
SELECT status, at, source, ip, text_shown, form_version FROM consent_events
WHERE tenant_id = $1 AND contact_id = $2 AND channel = $3 AND purpose = $4 ORDER BY id;

-- name: was_merged_into :value
-- Whether another contact became a part of this one after entry `$3` of the audit log.
SELECT EXISTS (SELECT FROM audit_log WHERE tenant_id = $1 AND seq > $3 AND target_kind = 'contact' AND target_id = $2 AND action = 'contact.merge');

-- name: exports_erased :many
-- Exports whose files must not be there any more.
SELECT id FROM exports WHERE tenant_id = $1 AND state = 'erased';
