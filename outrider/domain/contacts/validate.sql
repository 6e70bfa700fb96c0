-- name: i5_consent_without_proof :many
-- The consent that holds is the one of the latest entry in its proof.
-- tenant: none, because an operator validates the whole installation
SELECT c.tenant_id, c.contact_id AS id, format('%s %s says %s, its proof says %s', c.channel, c.purpose, c.status, coalesce(e.status, 'nothing')) AS detail
FROM consents c
LEFT JOIN LATERAL (
  SELECT e.status FROM consent_events e
  WHERE e.tenant_id = c.tenant_id AND e.contact_id = c.contact_id AND e.channel = c.channel AND e.purpose = c.purpose
  ORDER BY e.at DESC, e.id DESC LIMIT 1
) e ON true
WHERE e.status IS DISTINCT FROM c.status
LIMIT $1;

-- name: i5_member_of_refused_list :many
-- Nobody is on a list that they turned off.
-- tenant: none, because an operator validates the whole installation
SELECT r.tenant_id, r.contact_id AS id, format('on list %s, which they turned off at %s', r.list_id, r.at) AS detail
FROM list_refusals r JOIN list_members m ON m.tenant_id = r.tenant_id AND m.contact_id = r.contact_id AND m.list_id = r.list_id LIMIT $1;

-- name: i6_list_of_another_tenant :many
-- A running or completed import fills a list of its own tenant.
-- tenant: none, because an operator validates the whole installation
SELECT i.tenant_id, i.id, format('list %s belongs to tenant %s', i.list_id, l.tenant_id) AS detail
FROM imports i JOIN lists l ON l.id = i.list_id AND l.tenant_id <> i.tenant_id
WHERE NOT EXISTS (SELECT FROM lists own WHERE own.tenant_id = i.tenant_id AND own.id = i.list_id)
LIMIT $1;

-- name: i8_import_counts :many
-- The counts of an import add up: every row was created, updated, unchanged, a duplicate or refused.
-- tenant: none, because an operator validates the whole installation
SELECT tenant_id, id, format('%s rows, the parts add up to %s', row_count,
  created_count + updated_count + unchanged_count + duplicate_count + rejected_count) AS detail
FROM imports
WHERE row_count <> created_count + updated_count + unchanged_count + duplicate_count + rejected_count
LIMIT $1;

-- name: i8_dry_run_left_keys :many
-- What a dry run had met is gone when it has completed.
-- tenant: none, because an operator validates the whole installation
SELECT k.tenant_id, k.import_id AS id, format('%s is still kept', k.key) AS detail
FROM imports i JOIN import_keys k ON k.tenant_id = i.tenant_id AND k.import_id = i.id WHERE i.state = 'completed' LIMIT $1;
