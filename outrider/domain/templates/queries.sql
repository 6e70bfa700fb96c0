-- name: find_content :one
-- The content with this hash, and whether it was last used so long ago that retention may be about to take it.
SELECT id, created_at < now() - interval '12 hours' AS is_stale FROM contents WHERE tenant_id = $1 AND hash = $2;

-- name: touch_content :value
-- Mark an old content as in use again, so that retention leaves it; nothing when retention was quicker.
UPDATE contents SET created_at = now() WHERE tenant_id = $1 AND id = $2 RETURNING id;

-- name: insert_content :one
-- Store a content once; when another transaction was quicker, give its row.
INSERT INTO contents (tenant_id, channel, hash, is_template, subject, html, text, preheader, compiled)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb)
ON CONFLICT (tenant_id, hash) DO UPDATE SET created_at = now()
RETURNING id, xmax = 0 AS is_new;

-- name: insert_attachment :run
-- Store one file of a content, in its place.
INSERT INTO content_attachments (tenant_id, content_id, position, name, content_type, content) VALUES ($1, $2, $3, $4, $5, $6);

-- name: load_contents :many
-- Contents by id, for sending.
SELECT id, encode(hash, 'hex') AS version_key, is_template, subject, html, text, preheader, compiled::text AS compiled,
       EXISTS (SELECT FROM content_attachments a WHERE a.tenant_id = c.tenant_id AND a.content_id = c.id) AS has_files
FROM contents c WHERE tenant_id = $1 AND id = ANY ($2::uuid[]);

-- name: load_attachments :many
-- The files of contents, in their order.
SELECT content_id, name, content_type, content
FROM content_attachments WHERE tenant_id = $1 AND content_id = ANY ($2::uuid[]) ORDER BY content_id, position;

-- name: insert_template :one
-- Make a template; nothing when the name is taken.
INSERT INTO templates (tenant_id, name, channel) VALUES ($1, $2, $3) ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id;

-- name: lock_template :one
-- A template, held for a change; its versions are read after that, in a statement of their own.
SELECT channel, archived_at FROM templates WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- name: insert_version :run
-- Add a version to a template.
INSERT INTO template_versions (tenant_id, template_id, version, content_id, created_by, written) VALUES ($1, $2, $3, $4, $5, $6::text::jsonb);

-- name: archive_template :value
-- Take a template out of use, or back into it; versions stay.
UPDATE templates SET archived_at = CASE WHEN $3 THEN coalesce(archived_at, now()) END WHERE tenant_id = $1 AND id = $2 RETURNING id;

-- name: templates_page :many
-- Templates in the order they were made, after `$2`, with their latest version; archived ones only when `$4`.
SELECT t.id, t.name, t.channel, t.created_at, t.archived_at,
       (SELECT max(v.version) FROM template_versions v WHERE v.tenant_id = t.tenant_id AND v.template_id = t.id) AS latest_version
FROM templates t WHERE t.tenant_id = $1 AND t.id > $2 AND ($4::boolean OR t.archived_at IS NULL) ORDER BY t.id LIMIT $3;

-- name: template_get :one
-- One template with the number of its latest version.
SELECT t.id, t.name, t.channel, t.created_at, t.archived_at,
       (SELECT max(v.version) FROM template_versions v WHERE v.tenant_id = t.tenant_id AND v.template_id = t.id) AS latest_version
FROM templates t WHERE t.tenant_id = $1 AND t.id = $2;

-- name: versions_page :many
-- Versions of a template, newest first, before `$3`.
SELECT version, content_id, created_by, created_at FROM template_versions
WHERE tenant_id = $1 AND template_id = $2 AND version < $3 ORDER BY version DESC LIMIT $4;

-- name: version_get :one
-- One version of a template: `$3`, or the latest when that is null.
SELECT version, content_id, created_by, created_at, written::text AS written FROM template_versions
WHERE tenant_id = $1 AND template_id = $2 AND ($3::int IS NULL OR version = $3) ORDER BY version DESC LIMIT 1;

-- name: contents_purge :run
-- Drop inline contents older than `$1` days that no template version, campaign, open message or message that people decide about uses.
-- tenant: none, because retention is the installation's
DELETE FROM contents WHERE ctid = ANY (ARRAY(
  SELECT c.ctid FROM contents c
  WHERE c.created_at < now() - $1 * interval '1 day'
    AND NOT EXISTS (SELECT 1 FROM template_versions v WHERE v.tenant_id = c.tenant_id AND v.content_id = c.id)
    AND NOT EXISTS (SELECT 1 FROM campaigns p WHERE p.tenant_id = c.tenant_id AND p.content_id = c.id)
    AND NOT EXISTS (SELECT 1 FROM campaign_variants p WHERE p.tenant_id = c.tenant_id AND p.content_id = c.id)
    AND NOT EXISTS (SELECT 1 FROM queue q JOIN messages m ON m.tenant_id = q.tenant_id AND m.id = q.message_id
                    WHERE q.tenant_id = c.tenant_id AND m.content_id = c.id)
    AND NOT EXISTS (SELECT 1 FROM uncertain_messages u JOIN messages m ON m.tenant_id = u.tenant_id AND m.id = u.message_id
                    WHERE u.tenant_id = c.tenant_id AND m.content_id = c.id)
    AND NOT EXISTS (SELECT 1 FROM poison_messages p JOIN messages m ON m.tenant_id = p.tenant_id AND m.id = p.message_id
                    WHERE p.tenant_id = c.tenant_id AND m.content_id = c.id)
  LIMIT $2));

-- name: inline_contents :many
-- Those of some contents that no template version, no campaign and no variant of one has.
SELECT c.id FROM contents c WHERE c.tenant_id = $1 AND c.id = ANY ($2::uuid[])
  AND NOT EXISTS (SELECT 1 FROM template_versions v WHERE v.tenant_id = $1 AND v.content_id = c.id)
  AND NOT EXISTS (SELECT 1 FROM campaigns p WHERE p.tenant_id = $1 AND p.content_id = c.id)
  AND NOT EXISTS (SELECT 1 FROM campaign_variants p WHERE p.tenant_id = $1 AND p.content_id = c.id);

-- name: delete_contents :run
-- Delete contents with their files; a template version or campaign that has one refuses.
DELETE FROM contents WHERE tenant_id = $1 AND id = ANY ($2::uuid[]);
