-- Statements of imports as a whole: begun, watched, ended. What a batch reads and writes is in merge.sql.

-- name: insert_import :value
-- Begin an import.
INSERT INTO imports (tenant_id, file_name, sha256, size_bytes, list_id, options, total_count, created_by, kind, is_dry_run)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8, $9, $10) RETURNING id;

-- name: find_running :value
-- An import of the same file with the same options that was not brought to its end.
SELECT id FROM imports WHERE tenant_id = $1 AND state = 'running' AND sha256 = $2 AND options = $3::text::jsonb AND list_id IS NOT DISTINCT FROM $4
ORDER BY id DESC LIMIT 1;

-- name: import_get :one
-- One import with its progress.
SELECT id, kind, is_dry_run, file_name, encode(sha256, 'hex') AS sha256, size_bytes, list_id, options::text AS options, state, row_count,
       created_count, updated_count, unchanged_count, duplicate_count, rejected_count, rejected_by::text AS rejected_by, suppressed_count,
       kept_withdrawn_count, total_count, checkpoint_line, error, undo_state, undo_job_id, restored_count, deleted_count, left_count, created_by,
       created_at, progress_at, finished_at
FROM imports WHERE tenant_id = $1 AND id = $2;

-- name: imports_page :many
-- Imports, newest first, before `$2`.
SELECT id, kind, is_dry_run, file_name, encode(sha256, 'hex') AS sha256, size_bytes, list_id, options::text AS options, state, row_count,
       created_count, updated_count, unchanged_count, duplicate_count, rejected_count, rejected_by::text AS rejected_by, suppressed_count,
       kept_withdrawn_count, total_count, checkpoint_line, error, undo_state, undo_job_id, restored_count, deleted_count, left_count, created_by,
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

-- name: written_by_others :value
-- How many rows were ever written by what is no import: messages accepted, sent and ended, reports, openings, audited changes.
-- tenant: none, because an import is considerate of everybody
SELECT sum(pg_stat_get_tuples_inserted(t) + pg_stat_get_tuples_updated(t) + pg_stat_get_tuples_deleted(t))::bigint
FROM unnest('{queue,webhook_events,tracking_hits,audit_log}'::regclass[]) t;

-- name: end_import :value
-- Bring a running import to its end.
UPDATE imports SET state = $3, error = $4, finished_at = now(), progress_at = now()
WHERE tenant_id = $1 AND id = $2 AND state = 'running' RETURNING id;

-- name: lock_import :one
-- First lock of every batch: is it still to be done, from where, and what was refused so far?
SELECT state, checkpoint_line, rejected_by::text AS rejected_by, created_by FROM imports WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

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
       suppressed_count = suppressed_count + $10, kept_withdrawn_count = kept_withdrawn_count + $11, rejected_by = $12::text::jsonb, progress_at = now()
WHERE tenant_id = $1 AND id = $2;

-- name: changes_page :many
-- What an import did to contacts, or would do, by contact after `$3`: all, the new ones, the known ones, or by outcome of its undoing.
SELECT contact_id, line, address, is_new, before::text AS before, after::text AS after, at, outcome, reasons::text AS reasons
FROM import_changes WHERE tenant_id = $1 AND import_id = $2 AND contact_id > $3
  AND ($5::boolean IS NULL OR is_new = $5) AND ($6::text IS NULL OR outcome = $6) ORDER BY contact_id LIMIT $4;

-- name: keys_drop :run
-- Forget what a dry run had met, `$3` at a time.
DELETE FROM import_keys WHERE tenant_id = $1 AND import_id = $2 AND key = ANY (ARRAY(
  SELECT key FROM import_keys WHERE tenant_id = $1 AND import_id = $2 LIMIT $3));

-- name: last_shown_change :value
-- The last of the `$3` changes of a dry run that are kept.
SELECT contact_id FROM import_changes WHERE tenant_id = $1 AND import_id = $2 ORDER BY contact_id OFFSET $3 - 1 LIMIT 1;

-- name: changes_trim :run
-- Drop changes of a dry run after the last that is kept, `$4` at a time.
DELETE FROM import_changes WHERE tenant_id = $1 AND import_id = $2 AND contact_id = ANY (ARRAY(
  SELECT contact_id FROM import_changes WHERE tenant_id = $1 AND import_id = $2 AND contact_id > $3 ORDER BY contact_id LIMIT $4));

-- name: changes_of_person :many
-- What imports changed of a person, or dry runs would have changed, after import `$4` and contact `$5`, at most `$6`.
SELECT c.import_id, c.contact_id, i.file_name, i.is_dry_run, c.line, c.address, c.is_new, c.before::text AS before, c.after::text AS after, c.at,
       c.outcome, c.reasons::text AS reasons
FROM import_changes c JOIN imports i ON i.tenant_id = c.tenant_id AND i.id = c.import_id
WHERE c.tenant_id = $1 AND (c.contact_id = ANY ($2::uuid[]) OR (i.is_dry_run AND c.address = ANY ($3::text[])))
  AND (c.import_id, c.contact_id) > ($4::uuid, $5::uuid) ORDER BY c.import_id, c.contact_id LIMIT $6;

-- name: changes_forget :run
-- Take a person who is erased from what imports changed, or dry runs would have changed.
DELETE FROM import_changes WHERE tenant_id = $1 AND (contact_id = ANY ($2::uuid[])
  OR (import_id = ANY (ARRAY(SELECT id FROM imports WHERE tenant_id = $1 AND is_dry_run)) AND address = ANY ($3::text[])));

-- name: changes_purge :run
-- Drop what imports changed that ended more than `$1` days ago; from then on they cannot be undone.
-- tenant: none, because retention is the installation's
DELETE FROM import_changes WHERE ctid = ANY (ARRAY(
  SELECT c.ctid FROM imports i JOIN import_changes c ON c.tenant_id = i.tenant_id AND c.import_id = i.id
  WHERE i.finished_at < now() - $1 * interval '1 day' AND i.undo_state IS DISTINCT FROM 'running' LIMIT $2));

-- name: keys_purge :run
-- Drop what dry runs had met that are over (`$1` days) and did not clean up themselves.
-- tenant: none, because retention is the installation's
DELETE FROM import_keys WHERE ctid = ANY (ARRAY(
  SELECT k.ctid FROM imports i JOIN import_keys k ON k.tenant_id = i.tenant_id AND k.import_id = i.id
  WHERE i.finished_at < now() - $1 * interval '1 day' LIMIT $2));
