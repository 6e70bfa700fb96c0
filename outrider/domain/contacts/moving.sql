-- Statements of imports of suppressions and of consents from other systems. An entry never becomes weaker or later.

-- name: suppressions_held :many
-- What stands against these addresses on the tenant's own list.
SELECT t.address, p.* FROM unnest($2::text[]) t(address)
CROSS JOIN LATERAL (SELECT scope, reason, created_at, expires_at FROM suppressions WHERE tenant_id = $1 AND channel = $3
                      AND address_hash = sha256(convert_to(t.address, 'UTF8')) LIMIT 1) p;

-- name: suppress_all :many
-- Put addresses on the do-not-contact list; of whom there is no contact only the hash is kept. What is brought stays: it takes the place
-- of an entry that would end and is no stronger, with its own scope. Gives those that are new or became stronger or earlier.
INSERT INTO suppressions (tenant_id, channel, address_hash, address, scope, reason, source, note, created_by, created_at)
SELECT $1, $2, sha256(convert_to(t.address, 'UTF8')), CASE WHEN t.is_known THEN t.address END, t.scope, t.reason, t.source, t.note, $3,
       least(coalesce(t.at, now()), now())
FROM unnest($5::text[], $6::boolean[], $7::text[], $8::text[], $9::text[], $10::text[], $11::timestamptz[]) t(address, is_known, scope, reason, source, note, at)
ORDER BY 3
ON CONFLICT (tenant_id, channel, address_hash) DO UPDATE SET
  scope = CASE WHEN suppressions.expires_at IS NOT NULL
                    AND array_position($4::text[], excluded.reason) <= coalesce(array_position($4::text[], suppressions.reason), 1000) THEN excluded.scope
               WHEN excluded.scope = 'all' THEN 'all' ELSE suppressions.scope END,
  reason = CASE WHEN array_position($4::text[], excluded.reason) < coalesce(array_position($4::text[], suppressions.reason), 1000)
                THEN excluded.reason ELSE suppressions.reason END,
  expires_at = CASE WHEN array_position($4::text[], excluded.reason) <= coalesce(array_position($4::text[], suppressions.reason), 1000)
                    THEN NULL ELSE suppressions.expires_at END,
  created_at = least(suppressions.created_at, excluded.created_at)
WHERE (suppressions.scope = 'bulk' AND excluded.scope = 'all') OR excluded.created_at < suppressions.created_at
   OR array_position($4::text[], excluded.reason) < coalesce(array_position($4::text[], suppressions.reason), 1000)
   OR (suppressions.expires_at IS NOT NULL AND excluded.reason = suppressions.reason)
RETURNING channel;

-- name: say_consents :many
-- Record what another system knows of consent: a withdrawal always, a grant only where nothing was said; the earlier time holds.
WITH told AS (
  SELECT * FROM unnest($4::uuid[], $5::text[], $6::timestamptz[], $7::text[], $8::text[]) t(contact_id, status, at, source, ip)
), changed AS (
  INSERT INTO consents (tenant_id, contact_id, channel, purpose, status, at, source)
  SELECT $1, contact_id, $2, $3, status, least(coalesce(at, now()), now()), source FROM told ORDER BY contact_id
  ON CONFLICT (tenant_id, contact_id, channel, purpose) DO UPDATE SET status = excluded.status, at = excluded.at, source = excluded.source
  WHERE (consents.status = 'granted' AND excluded.status = 'withdrawn') OR (consents.status = excluded.status AND excluded.at < consents.at)
  RETURNING contact_id, status
)
INSERT INTO consent_events (tenant_id, contact_id, channel, purpose, status, source, ip, at)
SELECT $1, t.contact_id, $2, $3, c.status, t.source, t.ip,
       CASE WHEN EXISTS (SELECT 1 FROM consent_events e WHERE e.tenant_id = $1 AND e.contact_id = t.contact_id) THEN now()
            ELSE least(coalesce(t.at, now()), now()) END
FROM changed c JOIN told t ON t.contact_id = c.contact_id RETURNING contact_id;
