-- Statements of segments. Where a statement says `/* rules */ true`, compile.py puts the rules of a segment.

-- name: insert_segment :value
-- Make a segment; nothing when the name is taken.
INSERT INTO segments (tenant_id, name, description, rules, created_by) VALUES ($1, $2, $3, $4::text::jsonb, $5)
ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id;

-- name: lock_segment :value
-- A segment's name, held for a change.
SELECT name FROM segments WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- name: update_segment :value
-- Change a segment; what was counted before no longer counts.
UPDATE segments SET name = $3, description = $4, rules = $5::text::jsonb, updated_at = now(),
       contact_count = CASE WHEN rules = $5::text::jsonb THEN contact_count END, counted_at = CASE WHEN rules = $5::text::jsonb THEN counted_at END
WHERE tenant_id = $1 AND id = $2 AND NOT EXISTS (SELECT FROM segments other WHERE other.tenant_id = $1 AND other.name = $3 AND other.id <> $2)
RETURNING id;

-- name: delete_segment :value
-- Delete a segment; the foreign key of a campaign that goes to it refuses.
DELETE FROM segments WHERE tenant_id = $1 AND id = $2 RETURNING name;

-- name: segments_by_id :many
-- Segments by id.
SELECT id, name, description, rules::text AS rules, contact_count, counted_at, created_by, created_at, updated_at
FROM segments WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) ORDER BY id;

-- name: segments_page :many
-- Segments in the order they were made, after `$2`.
SELECT id, name, description, rules::text AS rules, contact_count, counted_at, created_by, created_at, updated_at
FROM segments WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3;

-- name: segments_naming :many
-- Segments whose rules name another one.
SELECT id, name FROM segments WHERE tenant_id = $1 AND jsonb_path_exists(rules, '$.** ? (@.segment_id == $id)', jsonb_build_object('id', $2::text)) ORDER BY id LIMIT 10;

-- name: keep_count :run
-- Keep what was counted.
UPDATE segments SET contact_count = $3, counted_at = now() WHERE tenant_id = $1 AND id = $2;

-- name: plan_for_values :run
-- Plan the next statements for the values they are run with, in this transaction: a rule about nobody and one about
-- everybody need different plans. `$1` is the longest that a statement may take, in milliseconds. The memory lets what a
-- million contacts are compared with be hashed at once instead of looked up a million times.
-- tenant: none, because it names no table
SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('statement_timeout', $1::text, true), set_config('work_mem', '64MB', true);

-- name: count_contacts :one
-- How many contacts some rules hold for.
SELECT count(*) AS contact_count, NULL::bigint AS with_address_count FROM contacts c WHERE c.tenant_id = $1 AND /* rules */ true;

-- name: count_with_address :one
-- As `count_contacts`, and how many of them have an address in a channel: several times the work.
SELECT count(*) AS contact_count,
       count(*) FILTER (WHERE c.id IN (SELECT a.contact_id FROM addresses a WHERE a.tenant_id = $1 AND a.channel = $2::text)) AS with_address_count
FROM contacts c WHERE c.tenant_id = $1 AND /* rules */ true;

-- name: contact_ids_of :many
-- Contacts for whom some rules hold, in the order they were made, after `$2`.
SELECT c.id FROM contacts c WHERE c.tenant_id = $1 AND c.id > $2 AND /* rules */ true ORDER BY c.id LIMIT $3;

-- name: unknown_lists :many
-- Which of these lists do not exist.
SELECT t.id FROM unnest($2::uuid[]) t(id) WHERE NOT EXISTS (SELECT 1 FROM lists l WHERE l.tenant_id = $1 AND l.id = t.id);

-- name: unknown_campaigns :many
-- Which of these campaigns do not exist.
SELECT t.id FROM unnest($2::uuid[]) t(id) WHERE NOT EXISTS (SELECT 1 FROM campaigns l WHERE l.tenant_id = $1 AND l.id = t.id);

-- name: tenant_timezone :value
-- In which time zone the tenant's days begin.
SELECT timezone FROM tenants WHERE id = $1;

-- name: now :value
-- The database's clock.
-- tenant: none, because it names no table
SELECT now();
