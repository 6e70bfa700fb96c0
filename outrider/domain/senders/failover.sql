-- Statements of fail-over: which connections a sender may use, and which of them cannot be reached now.

-- name: fallbacks_load :many
-- The connections that take over for a sender, in their order, secrets still sealed, with their circuits; `is_due` when
-- one that cannot be reached may be tried again. The sender's own is none of them, whatever the list says.
SELECT c.id AS connection_id, c.provider, c.settings::text AS settings, c.sealed_secrets, c.version AS connection_version, c.account,
       k.state AS circuit, k.passed, k.try_at <= now() AS is_due
FROM sender_fallbacks f
JOIN senders s ON s.tenant_id = $1 AND s.id = f.sender_id AND s.connection_id <> f.connection_id
JOIN connections c ON c.tenant_id = $1 AND c.id = f.connection_id
LEFT JOIN circuits k ON k.tenant_id = $1 AND k.connection_id = c.id
WHERE f.tenant_id = $1 AND f.sender_id = $2
ORDER BY f.position;

-- name: circuit_failed :one
-- A batch reached nobody by a connection, or its account was refused: `$4` of them in a row open its circuit for `$5`
-- seconds, twice as long each time it opens again, up to `$6`. Failures while it is open change nothing, and while it is
-- being tried only those of sends that began (`$9` seconds ago) after the failure before: what was under way when it opened
-- says nothing about the try. But a provider that asks to be left alone (`$8`) is left alone as long as the latest of its
-- wishes. What is told of another version of the connection than `$7` is not heard: it was changed since. Gives its state,
-- and whether this is news.
INSERT INTO circuits AS k (tenant_id, connection_id, state, failures, openings, cause, failed_at, opened_at, try_at)
SELECT $1, $2, CASE WHEN $4::int <= 1 THEN 'open' ELSE 'closed' END, 1, CASE WHEN $4::int <= 1 THEN 1 ELSE 0 END, $3, now(),
       CASE WHEN $4::int <= 1 THEN now() END, CASE WHEN $4::int <= 1 THEN now() + $5::float8 * interval '1 second' END
FROM connections c WHERE c.tenant_id = $1 AND c.id = $2 AND ($7::int IS NULL OR c.version = $7)
ON CONFLICT (tenant_id, connection_id) DO UPDATE SET (failures, cause, failed_at, passed, state, openings, opened_at, try_at) = (
  SELECT CASE WHEN h.counts THEN k.failures + 1 ELSE k.failures END,
         CASE WHEN h.counts THEN excluded.cause ELSE k.cause END,
         CASE WHEN h.counts THEN excluded.failed_at ELSE k.failed_at END,
         CASE WHEN h.counts THEN 0 ELSE k.passed END,
         CASE WHEN h.opens THEN 'open' ELSE k.state END,
         CASE WHEN h.opens THEN k.openings + 1 ELSE k.openings END,
         CASE WHEN h.opens AND k.state = 'closed' THEN now() ELSE k.opened_at END,
         CASE WHEN h.opens THEN now() + least($6::float8, $5::float8 * 2 ^ least(k.openings, 20)) * interval '1 second'
              WHEN $8::boolean AND k.state = 'open' THEN greatest(k.try_at, now() + $5::float8 * interval '1 second') ELSE k.try_at END
  FROM (SELECT c.counts, c.counts AND (k.state = 'half_open' OR k.failures + 1 >= $4::int) AS opens
        FROM (SELECT k.state = 'closed' OR (k.state = 'half_open' AND ($8::boolean OR k.failed_at <= now() - $9::float8 * interval '1 second')) AS counts) c) h)
RETURNING state, failed_at = now() AS is_news;

-- name: circuit_account :value
-- By what a connection's account is known, held until the end of the transaction: the circuit of an account is one, whoever has
-- entered it, and who changes it waits for who changes it now. Nothing where nobody knows the account.
SELECT c.account FROM connections c CROSS JOIN LATERAL pg_advisory_xact_lock(hashtextextended('circuit ' || c.account, 0)) AS held
WHERE c.tenant_id = $1 AND c.id = $2 AND c.account IS NOT NULL;

-- name: circuit_account_free :one
-- The same without waiting: `is_free` when nobody changes it now.
SELECT c.account, c.account IS NULL OR pg_try_advisory_xact_lock(hashtextextended('circuit ' || c.account, 0)) AS is_free
FROM connections c WHERE c.tenant_id = $1 AND c.id = $2;

-- name: circuit_spread :many
-- A connection's circuit was opened by one of the causes `$4`, which are its account's: it is open for every connection of the
-- account `$3` as well, at least as long. One that is given other credentials just now is waited for, and then looked at again:
-- it may be of another account. Gives those for which this is news.
-- tenant: none, because the account may be several tenants'
INSERT INTO circuits AS k (tenant_id, connection_id, state, failures, openings, cause, failed_at, opened_at, try_at)
SELECT o.tenant_id, o.id, m.state, m.failures, m.openings, m.cause, m.failed_at, m.opened_at, m.try_at
FROM circuits m JOIN connections o ON o.account = $3 AND (o.tenant_id, o.id) <> (m.tenant_id, m.connection_id)
WHERE m.tenant_id = $1 AND m.connection_id = $2 AND m.state = 'open' AND m.cause = ANY ($4::text[])
FOR KEY SHARE OF o
ON CONFLICT (tenant_id, connection_id) DO UPDATE SET
  state = 'open', failures = excluded.failures, openings = greatest(k.openings, excluded.openings), passed = 0, cause = excluded.cause,
  failed_at = excluded.failed_at, opened_at = coalesce(k.opened_at, excluded.opened_at), try_at = excluded.try_at
WHERE k.state <> 'open' OR k.try_at < excluded.try_at
RETURNING connection_id;

-- name: circuit_follow :run
-- What a connection's circuit has come to while its account is tried holds for the others of the account `$3`: one message tries it
-- for all, and when that goes all may send a few.
-- tenant: none, because the account may be several tenants'
UPDATE circuits k SET state = m.state, passed = m.passed, failures = m.failures, try_at = m.try_at
FROM circuits m, connections o
WHERE m.tenant_id = $1 AND m.connection_id = $2 AND m.cause = ANY ($4::text[]) AND o.account = $3
  AND (o.tenant_id, o.id) <> (m.tenant_id, m.connection_id) AND k.tenant_id = o.tenant_id AND k.connection_id = o.id AND k.cause = ANY ($4::text[]);

-- name: circuit_close_others :run
-- The account `$3` is trusted again: by its other connections as well.
-- tenant: none, because the account may be several tenants'
DELETE FROM circuits k USING connections o
WHERE o.account = $3 AND (o.tenant_id, o.id) <> ($1, $2) AND k.tenant_id = o.tenant_id AND k.connection_id = o.id
  AND k.state = 'half_open' AND k.cause = ANY ($4::text[]);

-- name: circuit_try :value
-- Take the one message that tries a connection whose time has come; one that was taken and forgotten is taken again.
UPDATE circuits SET state = 'half_open', passed = 0, try_at = now() + $3::float8 * interval '1 second'
WHERE tenant_id = $1 AND connection_id = $2 AND try_at <= now() AND (state = 'open' OR (state = 'half_open' AND passed = 0))
RETURNING connection_id;

-- name: circuit_untried :value
-- The message that was to try a connection did not get so far: another one may soon.
UPDATE circuits SET state = 'open', try_at = now() + interval '1 second'
WHERE tenant_id = $1 AND connection_id = $2 AND state = 'half_open' AND passed = 0
RETURNING connection_id;

-- name: circuit_tell :run
-- Let every worker look at the circuits of connections: they were opened, or taken for reachable.
SELECT pg_notify('outrider_circuit', id || ' ' || $2::text) FROM unnest($1::uuid[]) AS c(id);

-- name: circuit_passed :value
-- Messages were accepted: a connection that failed once is forgiven, one that is being tried may take more.
UPDATE circuits SET passed = passed + $3, failures = 0 WHERE tenant_id = $1 AND connection_id = $2 AND state <> 'open' RETURNING state;

-- name: circuit_close :value
-- Close a circuit by which `$3` messages went, and forget one that failed without opening.
DELETE FROM circuits WHERE tenant_id = $1 AND connection_id = $2
  AND ((state = 'half_open' AND passed >= $3) OR (state = 'closed' AND failures = 0))
RETURNING state;

-- name: circuit_reset :value
-- Take a connection for reachable again.
DELETE FROM circuits WHERE tenant_id = $1 AND connection_id = $2 RETURNING state;

-- name: circuit_get :one
-- The circuit of one connection.
SELECT state, failures, passed, cause, failed_at, opened_at, try_at FROM circuits WHERE tenant_id = $1 AND connection_id = $2;

-- name: senders_waiting :many
-- Senders none of whose connections may be used freely now, with what is known against their own.
SELECT s.id AS sender_id, c.name, k.state, k.cause, k.try_at
FROM senders s
JOIN connections c ON c.tenant_id = $1 AND c.id = s.connection_id
JOIN circuits k ON k.tenant_id = $1 AND k.connection_id = s.connection_id AND k.state <> 'closed'
WHERE s.tenant_id = $1 AND s.id = ANY ($2::uuid[]) AND NOT EXISTS (
  SELECT FROM sender_fallbacks f LEFT JOIN circuits o ON o.tenant_id = $1 AND o.connection_id = f.connection_id
  WHERE f.tenant_id = $1 AND f.sender_id = s.id AND f.connection_id <> s.connection_id AND coalesce(o.state, 'closed') = 'closed');

-- name: circuits_open :many
-- Connections of all tenants that cannot be reached or are being tried, those longest known first.
-- tenant: none, because it is told to the installation's operators
SELECT k.tenant_id, c.name, k.state, k.cause, k.opened_at FROM circuits k
JOIN connections c ON c.tenant_id = k.tenant_id AND c.id = k.connection_id
WHERE k.state <> 'closed' ORDER BY k.opened_at LIMIT 1000;

-- name: fallbacks :value
-- The connections that take over, in their order.
SELECT coalesce(array_agg(connection_id ORDER BY position), '{}') FROM sender_fallbacks WHERE tenant_id = $1 AND sender_id = $2;

-- name: fallbacks_clear :run
-- Nothing takes over. The sender has been changed: what was lost on another way is not looked for on the new ones.
WITH told AS (UPDATE senders SET updated_at = now() WHERE tenant_id = $1 AND id = $2)
DELETE FROM sender_fallbacks WHERE tenant_id = $1 AND sender_id = $2;

-- name: fallbacks_set :run
-- These take over, in this order.
INSERT INTO sender_fallbacks (tenant_id, sender_id, position, connection_id)
SELECT $1, $2, at, id FROM unnest($3::uuid[]) WITH ORDINALITY AS f (id, at);

-- name: connection_providers :many
-- The providers of connections.
SELECT id, provider FROM connections WHERE tenant_id = $1 AND id = ANY ($2::uuid[]);
