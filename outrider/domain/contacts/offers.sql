-- Statements of lists that people turn on and off themselves.

-- name: offer_keep :value
-- Offer a list, or say something else about it; nothing when there is no such list.
INSERT INTO list_offers (tenant_id, list_id, title, description, place, offered_by)
SELECT l.tenant_id, l.id, $3, $4, $5, $6 FROM lists l WHERE l.tenant_id = $1 AND l.id = $2
ON CONFLICT (tenant_id, list_id) DO UPDATE SET title = excluded.title, description = excluded.description, place = excluded.place
RETURNING list_id;

-- name: offer_withdraw :value
-- Offer a list no more; forms lose it, what people turned off stays off.
DELETE FROM list_offers WHERE tenant_id = $1 AND list_id = $2 RETURNING title;

-- name: offers :many
-- Every list on offer, as people see them; `$2` null for all.
SELECT o.list_id, l.name, o.title, o.description, o.place, o.offered_by, o.offered_at
FROM list_offers o JOIN lists l ON l.tenant_id = o.tenant_id AND l.id = o.list_id
WHERE o.tenant_id = $1 AND ($2::uuid[] IS NULL OR o.list_id = ANY ($2)) ORDER BY o.place, o.title, o.list_id LIMIT 1000;

-- name: offers_of_contact :many
-- Every list on offer, and whether a contact is on it.
SELECT o.list_id, o.title, o.description,
       EXISTS (SELECT FROM list_members m WHERE m.tenant_id = o.tenant_id AND m.list_id = o.list_id AND m.contact_id = $2) AS is_on
FROM list_offers o WHERE o.tenant_id = $1 ORDER BY o.place, o.title, o.list_id LIMIT 1000;

-- name: refuse_lists :many
-- A contact turns lists off: nobody but they puts them on again. Gives those that are new.
INSERT INTO list_refusals (tenant_id, contact_id, list_id, source)
SELECT l.tenant_id, $2, l.id, $4 FROM lists l WHERE l.tenant_id = $1 AND l.id = ANY ($3::uuid[])
ON CONFLICT DO NOTHING RETURNING list_id;

-- name: leave_lists :many
-- Take a contact off lists; gives those they were on.
DELETE FROM list_members WHERE tenant_id = $1 AND contact_id = $2 AND list_id = ANY ($3::uuid[]) RETURNING list_id;

-- name: allow_lists :run
-- A contact turns lists on again.
DELETE FROM list_refusals WHERE tenant_id = $1 AND contact_id = $2 AND list_id = ANY ($3::uuid[]);

-- name: join_lists :many
-- Put a contact on lists that are on offer; gives those that are new.
INSERT INTO list_members (tenant_id, list_id, contact_id)
SELECT o.tenant_id, o.list_id, $2 FROM list_offers o WHERE o.tenant_id = $1 AND o.list_id = ANY ($3::uuid[])
ON CONFLICT DO NOTHING RETURNING list_id;

-- name: lists_of :many
-- The lists a contact is on.
SELECT list_id FROM list_members WHERE tenant_id = $1 AND contact_id = $2;

-- name: refusals_among :many
-- Which of these contacts turned a list off.
SELECT contact_id FROM list_refusals WHERE tenant_id = $1 AND list_id = $2 AND contact_id = ANY ($3::uuid[]);

-- name: refusals_of :many
-- The lists a contact turned off.
SELECT r.list_id AS id, l.name, r.source, r.at FROM list_refusals r JOIN lists l ON l.tenant_id = r.tenant_id AND l.id = r.list_id
WHERE r.tenant_id = $1 AND r.contact_id = $2 ORDER BY r.at, r.list_id;

-- name: move_refusals :run
-- What `$3` turned off, `$2` has turned off.
INSERT INTO list_refusals (tenant_id, contact_id, list_id, source, at)
SELECT tenant_id, $2, list_id, source, at FROM list_refusals WHERE tenant_id = $1 AND contact_id = $3 ON CONFLICT DO NOTHING;

-- name: leave_refused :run
-- Take a contact off every list that they turned off.
DELETE FROM list_members m USING list_refusals r
WHERE m.tenant_id = $1 AND m.contact_id = $2 AND r.tenant_id = m.tenant_id AND r.contact_id = m.contact_id AND r.list_id = m.list_id;
