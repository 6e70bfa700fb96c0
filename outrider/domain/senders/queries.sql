-- name: load_identity :one
-- A sender with its connection, for sending; secrets still sealed.
SELECT s.channel, s.from_address, s.from_name, s.reply_to, s.return_path, s.postal_address,
       s.dkim::text AS dkim, s.sealed_dkim, s.transactional_guarantee, s.bulk_guarantee, s.version AS sender_version,
       s.archived_at IS NOT NULL AS is_archived,
       c.id AS connection_id, c.provider, c.settings::text AS settings, c.sealed_secrets, c.version AS connection_version
FROM senders s JOIN connections c ON c.tenant_id = s.tenant_id AND c.id = s.connection_id
WHERE s.tenant_id = $1 AND s.id = $2;

-- name: identity_versions :one
-- The versions by which a loaded sender is still fresh.
SELECT s.version AS sender_version, c.id AS connection_id, c.version AS connection_version
FROM senders s JOIN connections c ON c.tenant_id = s.tenant_id AND c.id = s.connection_id
WHERE s.tenant_id = $1 AND s.id = $2;
