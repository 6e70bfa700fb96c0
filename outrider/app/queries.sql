-- name: key_read :one
-- With which secret key this installation was sealed; both are null before the first start.
-- tenant: none, because the key is the installation's
SELECT key_id, key_check FROM installation WHERE id = 1;

-- name: key_record :one
-- Record the key of the first start; whoever comes second finds the first one's.
-- tenant: none, because the key is the installation's
WITH mine AS (
  UPDATE installation SET key_id = $1, key_check = $2 WHERE id = 1 AND key_id IS NULL RETURNING key_id, key_check
)
SELECT key_id, key_check FROM mine
UNION ALL
SELECT key_id, key_check FROM installation WHERE id = 1 AND key_id IS NOT NULL
LIMIT 1;
