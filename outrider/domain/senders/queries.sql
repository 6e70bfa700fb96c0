-- name: load_identity :one
-- A sender with its connection, for sending; secrets still sealed.
SELECT s.channel, s.from_address, s.from_name, s.reply_to, s.return_path, s.postal_address, s.public_url, s.tracking_url, s.opt_out_line,
       s.dkim::text AS dkim, s.sealed_dkim, s.transactional_guarantee, s.bulk_guarantee, s.version AS sender_version,
       s.archived_at IS NOT NULL AS is_archived,
       ARRAY(SELECT p.number FROM pool_numbers p WHERE p.tenant_id = s.tenant_id AND p.sender_id = s.id AND p.is_active ORDER BY p.id) AS numbers,
       c.id AS connection_id, c.provider, c.settings::text AS settings, c.sealed_secrets, c.version AS connection_version, c.account,
       k.state AS circuit, k.passed, k.try_at <= now() AS is_due,
       EXISTS (SELECT FROM sender_fallbacks f WHERE f.tenant_id = s.tenant_id AND f.sender_id = s.id) AS has_fallbacks,
       EXISTS (SELECT FROM list_offers o WHERE o.tenant_id = s.tenant_id)
         AND NOT EXISTS (SELECT FROM tenants t WHERE t.id = s.tenant_id AND t.settings ->> 'preferences_footer' = 'false') AS has_preferences_footer
FROM senders s JOIN connections c ON c.tenant_id = s.tenant_id AND c.id = s.connection_id
LEFT JOIN circuits k ON k.tenant_id = s.tenant_id AND k.connection_id = s.connection_id
WHERE s.tenant_id = $1 AND s.id = $2;

-- name: preferences_footer :value
-- Whether bulk emails show the way to the preference centre by themselves: a list is on offer, and the tenant says nothing else.
SELECT EXISTS (SELECT FROM list_offers o WHERE o.tenant_id = $1)
   AND NOT EXISTS (SELECT FROM tenants t WHERE t.id = $1 AND t.settings ->> 'preferences_footer' = 'false');

-- name: mint_id :value
-- An id before its row exists: secrets are sealed for the row they belong to.
-- tenant: none, because it names no table
SELECT outrider_id();

-- name: insert_connection :value
-- Make a connection; nothing when the name is taken.
INSERT INTO connections (tenant_id, id, name, provider, settings, sealed_secrets) VALUES ($1, $2, $3, $4, $5::text::jsonb, $6)
ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id;

-- name: lock_connection :one
-- A connection as it is, held for a change.
SELECT id, name, provider, settings::text AS settings, sealed_secrets, version FROM connections WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- name: update_connection :value
-- Change a connection; workers see the version and open it anew. Which account it is, once its settings (`$6`) are others, is known
-- when that was done.
UPDATE connections SET name = $3, settings = $4::text::jsonb, sealed_secrets = $5, version = version + 1, updated_at = now(),
       account = CASE WHEN $6::boolean THEN NULL ELSE account END
WHERE tenant_id = $1 AND id = $2 RETURNING version;

-- name: connection_account :run
-- Which account at its provider a connection is, unless it was changed since it was read.
UPDATE connections SET account = $4 WHERE tenant_id = $1 AND id = $2 AND version = $3 AND account IS DISTINCT FROM $4;

-- name: delete_connection :value
-- Delete a connection; the foreign key of a sender that uses it refuses.
DELETE FROM connections WHERE tenant_id = $1 AND id = $2 RETURNING name;

-- name: connection_get :one
-- One connection, secrets sealed.
SELECT id, name, provider, settings::text AS settings, sealed_secrets, version, created_at, updated_at FROM connections WHERE tenant_id = $1 AND id = $2;

-- name: connection_named :value
-- The id of the connection of this name, or of this id.
SELECT id FROM connections WHERE tenant_id = $1 AND (name = $2 OR id::text = $2) ORDER BY name = $2 DESC LIMIT 1;

-- name: connections_page :many
-- Connections in the order they were made, after `$2`, secrets sealed.
SELECT id, name, provider, settings::text AS settings, sealed_secrets, version, created_at, updated_at FROM connections
WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3;

-- name: insert_sender :value
-- Make a sender; nothing when the name is taken.
INSERT INTO senders (tenant_id, id, name, channel, connection_id, from_address, from_name, reply_to, return_path, postal_address,
                     public_url, tracking_url, opt_out_line, dkim, sealed_dkim, transactional_guarantee, bulk_guarantee)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14::text::jsonb, $15, $16, $17)
ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id;

-- name: lock_sender :one
-- A sender as it is, held for a change; signing keys sealed.
SELECT id, name, channel, connection_id, from_address, from_name, reply_to, return_path, postal_address, public_url, tracking_url, opt_out_line, dkim::text AS dkim, sealed_dkim,
       transactional_guarantee, bulk_guarantee
FROM senders WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- name: update_sender :value
-- Change a sender; workers see the version and compose anew.
UPDATE senders SET name = $3, connection_id = $4, from_address = $5, from_name = $6, reply_to = $7, return_path = $8, postal_address = $9,
       public_url = $10, tracking_url = $11, opt_out_line = $12, dkim = $13::text::jsonb, sealed_dkim = $14, transactional_guarantee = $15,
       bulk_guarantee = $16, version = version + 1, updated_at = now()
WHERE tenant_id = $1 AND id = $2 RETURNING version;

-- name: archive_sender :value
-- Take a sender out of use for what is new, or back into it.
UPDATE senders SET archived_at = CASE WHEN $3 THEN coalesce(archived_at, now()) END, version = version + 1, updated_at = now()
WHERE tenant_id = $1 AND id = $2 RETURNING id;

-- name: sender_get :one
-- One sender, without its signing keys.
SELECT id, name, channel, connection_id, from_address, from_name, reply_to, return_path, postal_address, public_url, tracking_url, opt_out_line, dkim::text AS dkim,
       transactional_guarantee, bulk_guarantee, version, created_at, updated_at, archived_at
FROM senders WHERE tenant_id = $1 AND id = $2;

-- name: senders_page :many
-- Senders in the order they were made, after `$2`; archived ones only when `$4`.
SELECT id, name, channel, connection_id, from_address, from_name, reply_to, return_path, postal_address, public_url, tracking_url, opt_out_line, dkim::text AS dkim,
       transactional_guarantee, bulk_guarantee, version, created_at, updated_at, archived_at
FROM senders WHERE tenant_id = $1 AND id > $2 AND ($4::boolean OR archived_at IS NULL) ORDER BY id LIMIT $3;

-- name: sender_domains :one
-- What of a sender matters to the name system; signing keys sealed.
SELECT s.name, s.channel, s.from_address, s.return_path, s.public_url, s.tracking_url, s.dkim::text AS dkim, s.sealed_dkim,
       c.settings::text AS settings
FROM senders s JOIN connections c ON c.tenant_id = s.tenant_id AND c.id = s.connection_id
WHERE s.tenant_id = $1 AND s.id = $2;

-- name: insert_number :value
-- Put a number into a sender's pool; nothing when it is in one.
INSERT INTO pool_numbers (tenant_id, number, sender_id) VALUES ($1, $2, $3) ON CONFLICT (tenant_id, number) DO NOTHING RETURNING id;

-- name: change_number :value
-- Use a number for what is new, or let it rest.
UPDATE pool_numbers SET is_active = $3 WHERE tenant_id = $1 AND id = $2 RETURNING id;

-- name: delete_number :value
-- Take a number out of its pool; who heard from it goes with it.
WITH gone AS (
  DELETE FROM pool_numbers WHERE tenant_id = $1 AND id = $2 RETURNING number, sender_id
), heard AS (
  DELETE FROM sticky_numbers s USING gone g WHERE s.tenant_id = $1 AND s.sender_id = g.sender_id AND s.number = g.number
)
SELECT number FROM gone;

-- name: numbers_of_sender :value
-- How many numbers a sender's pool has.
SELECT count(*) FROM pool_numbers WHERE tenant_id = $1 AND sender_id = $2;

-- name: number_get :one
-- One number with how many hear from it.
SELECT p.id, p.number, p.sender_id, s.name AS sender, p.is_active, p.created_at,
       (SELECT count(*) FROM sticky_numbers t WHERE t.tenant_id = $1 AND t.sender_id = p.sender_id AND t.number = p.number) AS recipient_count
FROM pool_numbers p JOIN senders s ON s.tenant_id = p.tenant_id AND s.id = p.sender_id
WHERE p.tenant_id = $1 AND p.id = $2;

-- name: numbers_page :many
-- Numbers in the order they were added, after `$2`; of one sender when `$4` is given.
SELECT p.id, p.number, p.sender_id, s.name AS sender, p.is_active, p.created_at,
       (SELECT count(*) FROM sticky_numbers t WHERE t.tenant_id = $1 AND t.sender_id = p.sender_id AND t.number = p.number) AS recipient_count
FROM pool_numbers p JOIN senders s ON s.tenant_id = p.tenant_id AND s.id = p.sender_id
WHERE p.tenant_id = $1 AND p.id > $2 AND ($4::uuid IS NULL OR p.sender_id = $4) ORDER BY p.id LIMIT $3;

-- name: stick :many
-- The number each recipient hears from: the one before while it is in use, else one chosen by the address and kept.
WITH wanted AS (
  SELECT w.address, k.number AS kept, ($4::text[])[1 + (hashtextextended(w.address, 0) & 2147483647) % cardinality($4::text[])] AS chosen
  FROM unnest($3::text[]) w(address)
  LEFT JOIN sticky_numbers k ON k.tenant_id = $1 AND k.sender_id = $2 AND k.address = w.address AND k.number = ANY ($4::text[])
), kept AS (
  INSERT INTO sticky_numbers (tenant_id, sender_id, address, number)
  SELECT $1, $2, address, chosen FROM wanted WHERE kept IS NULL ORDER BY address
  ON CONFLICT (tenant_id, sender_id, address) DO UPDATE SET number = excluded.number, since = now()
)
SELECT address, coalesce(kept, chosen) AS number FROM wanted;

-- name: numbers_of_person :many
-- From which numbers addresses of a person hear, after sender `$3` and address `$4`, at most `$5`.
SELECT k.sender_id, s.name AS sender, k.address, k.number, k.since FROM sticky_numbers k LEFT JOIN senders s ON s.tenant_id = k.tenant_id AND s.id = k.sender_id
WHERE k.tenant_id = $1 AND k.address = ANY ($2::text[]) AND (k.sender_id, k.address) > ($3::uuid, $4::text) ORDER BY k.sender_id, k.address LIMIT $5;

-- name: forget_numbers :run
-- Forget from which numbers addresses heard.
DELETE FROM sticky_numbers WHERE tenant_id = $1 AND address = ANY ($2::text[]);

-- name: number_owner :one
-- Whose number it is, out of pools and senders; a pool's entry first.
SELECT sender_id, from_name FROM (
  SELECT p.sender_id, s.from_name, 0 AS place FROM pool_numbers p JOIN senders s ON s.tenant_id = p.tenant_id AND s.id = p.sender_id
  WHERE p.tenant_id = $1 AND p.number = $2 AND s.channel = $3
  UNION ALL
  SELECT s.id, s.from_name, 1 FROM senders s WHERE s.tenant_id = $1 AND s.channel = $3 AND s.from_address = $2 AND s.archived_at IS NULL
) n ORDER BY place, sender_id LIMIT 1;
