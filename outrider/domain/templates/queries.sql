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
SELECT id, encode(hash, 'hex') AS version_key, is_template, subject, html, text, preheader, compiled::text AS compiled
FROM contents WHERE tenant_id = $1 AND id = ANY ($2::uuid[]);

-- name: load_attachments :many
-- The files of contents, in their order.
SELECT content_id, name, content_type, content
FROM content_attachments WHERE tenant_id = $1 AND content_id = ANY ($2::uuid[]) ORDER BY content_id, position;
