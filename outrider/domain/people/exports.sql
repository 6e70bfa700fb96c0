-- Statements that read a tenant's contacts, lists, do-not-contact entries and proof of consent page by page, for exports.

-- name: export_contacts :many
-- Contacts after `$2`, one list only when `$4` names it, with everything an import can read again.
SELECT c.id, c.external_id, c.name, c.timezone, c.locale, c.attributes::text AS attributes, c.created_at, c.updated_at,
       ARRAY(SELECT a.channel || ':' || a.address FROM addresses a WHERE a.tenant_id = $1 AND a.contact_id = c.id ORDER BY a.channel, a.created_at, a.address) AS addresses,
       ARRAY(SELECT t.tag FROM contact_tags t WHERE t.tenant_id = $1 AND t.contact_id = c.id ORDER BY t.tag) AS tags,
       ARRAY(SELECT l.name FROM list_members m JOIN lists l ON l.tenant_id = $1 AND l.id = m.list_id
             WHERE m.tenant_id = $1 AND m.contact_id = c.id ORDER BY l.name) AS lists,
       ARRAY(SELECT s.channel || ' ' || s.purpose || ': ' || s.status FROM consents s WHERE s.tenant_id = $1 AND s.contact_id = c.id
             ORDER BY s.channel, s.purpose) AS consents
FROM contacts c WHERE c.tenant_id = $1 AND c.id > $2
  AND ($4::uuid IS NULL OR EXISTS (SELECT 1 FROM list_members m WHERE m.tenant_id = $1 AND m.list_id = $4 AND m.contact_id = c.id))
ORDER BY c.id LIMIT $3;

-- name: export_lists :many
-- Memberships after list `$2` and contact `$3`: which list, who.
SELECT m.list_id, m.contact_id, l.name AS list, m.added_at, c.external_id,
       (SELECT a.address FROM addresses a WHERE a.tenant_id = $1 AND a.contact_id = m.contact_id ORDER BY a.channel, a.created_at, a.address LIMIT 1) AS address
FROM list_members m JOIN lists l ON l.tenant_id = m.tenant_id AND l.id = m.list_id JOIN contacts c ON c.tenant_id = m.tenant_id AND c.id = m.contact_id
WHERE m.tenant_id = $1 AND (m.list_id, m.contact_id) > ($2, $3) ORDER BY m.list_id, m.contact_id LIMIT $4;

-- name: export_suppressions :many
-- The tenant's do-not-contact entries after channel `$2` and hash `$3`.
SELECT channel, address_hash, address, encode(address_hash, 'hex') AS sha256, scope, reason, source, note, created_by, created_at
FROM suppressions WHERE tenant_id = $1 AND (channel, address_hash) > ($2, $3) ORDER BY channel, address_hash LIMIT $4;

-- name: export_consents :many
-- The proof of consent after `$2`, with who it is about.
SELECT e.id, e.contact_id, c.external_id, e.channel, e.purpose, e.status, e.at, e.source, e.ip, e.text_shown, e.form_version,
       (SELECT a.address FROM addresses a WHERE a.tenant_id = $1 AND a.contact_id = e.contact_id AND a.channel = e.channel ORDER BY a.created_at, a.address LIMIT 1) AS address
FROM consent_events e LEFT JOIN contacts c ON c.tenant_id = e.tenant_id AND c.id = e.contact_id
WHERE e.tenant_id = $1 AND e.id > $2 ORDER BY e.id LIMIT $3;
