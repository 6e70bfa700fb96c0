-- name: tenant_add :one
-- Make a tenant; gives nothing when the name is taken.
-- tenant: none, because the row is the tenant itself
INSERT INTO tenants (name, timezone) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING
RETURNING id, name, timezone, settings, created_at;

-- name: tenant_get :one
-- One tenant, locked against other changes when it is about to be changed.
-- tenant: none, because the row is the tenant itself
SELECT id, name, timezone, settings, created_at FROM tenants WHERE id = $1;

-- name: tenant_region :value
-- The country in which a tenant's people write telephone numbers; null when none is set.
-- tenant: none, because the row is the tenant itself
SELECT settings ->> 'default_region' FROM tenants WHERE id = $1;

-- name: tenant_lock :one
-- One tenant, about to be changed.
-- tenant: none, because the row is the tenant itself
SELECT id, name, timezone, settings, created_at FROM tenants WHERE id = $1 FOR UPDATE;

-- name: tenant_named :one
-- A tenant by its name or id as text, for the command line and for signing in.
-- tenant: none, because it finds the tenant
SELECT id, name, timezone, settings, created_at FROM tenants WHERE name = $1 OR id::text = $1;

-- name: tenant_name_taken :value
-- Whether another tenant has this name (names are unique across the installation; the engine role sees them all).
-- tenant: none, because names are unique across tenants
SELECT EXISTS (SELECT FROM tenants WHERE name = $2 AND id <> $1);

-- name: tenant_change :one
-- Write a tenant's changed fields.
-- tenant: none, because the row is the tenant itself
UPDATE tenants SET name = $2, timezone = $3, settings = $4::jsonb WHERE id = $1
RETURNING id, name, timezone, settings, created_at;

-- name: tenants_after :many
-- A page of tenants by name.
-- tenant: none, because it lists tenants
SELECT id, name, timezone, settings, created_at FROM tenants WHERE name > $1 ORDER BY name LIMIT $2;

-- name: look_get :one
-- How a tenant's public pages look; every tenant has one row here, the look's own columns null without one.
-- tenant: none, because the row is the tenant itself
SELECT t.name, l.display_name, l.colour, l.colour_dark, l.footer, l.logo, l.logo_type, l.changed_by, l.changed_at
FROM tenants t LEFT JOIN tenant_looks l ON l.tenant_id = t.id WHERE t.id = $1;

-- name: look_keep :run
-- Write a tenant's look but for the logo.
INSERT INTO tenant_looks (tenant_id, display_name, colour, colour_dark, footer, changed_by) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id) DO UPDATE SET display_name = excluded.display_name, colour = excluded.colour, colour_dark = excluded.colour_dark,
  footer = excluded.footer, changed_by = excluded.changed_by, changed_at = now();

-- name: look_logo :run
-- Write or take away a tenant's logo.
INSERT INTO tenant_looks (tenant_id, logo, logo_type, changed_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id) DO UPDATE SET logo = excluded.logo, logo_type = excluded.logo_type, changed_by = excluded.changed_by, changed_at = now();

-- name: user_add :one
-- Make a user; gives nothing when the address is taken in this tenant.
INSERT INTO users (tenant_id, email, name, password_hash, role, is_installation_admin) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, email) DO NOTHING
RETURNING tenant_id, id, email, name, role, is_installation_admin, is_active, created_at, last_login_at, password_changed_at;

-- name: user_get :one
-- One user of a tenant.
SELECT tenant_id, id, email, name, role, is_installation_admin, is_active, created_at, last_login_at, password_changed_at
FROM users WHERE tenant_id = $1 AND id = $2;

-- name: user_named :one
-- One user of a tenant by the address or the id.
SELECT tenant_id, id, email, name, role, is_installation_admin, is_active, created_at, last_login_at, password_changed_at
FROM users WHERE tenant_id = $1 AND (email = $2 OR id::text = $2);

-- name: user_lock :one
-- One user of a tenant, about to be changed, with the hash of the password.
SELECT tenant_id, id, email, name, role, is_installation_admin, is_active, created_at, last_login_at, password_changed_at,
       password_hash
FROM users WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- name: users_after :many
-- A page of a tenant's users by address.
SELECT tenant_id, id, email, name, role, is_installation_admin, is_active, created_at, last_login_at, password_changed_at
FROM users WHERE tenant_id = $1 AND email > $2 ORDER BY email LIMIT $3;

-- name: user_count :value
-- How many people there are at all: a fresh installation has none.
-- tenant: none, because it counts the installation's
SELECT count(*) FROM users;

-- name: user_change :one
-- Write a user's changed fields.
UPDATE users SET name = $3, role = $4, is_installation_admin = $5, is_active = $6 WHERE tenant_id = $1 AND id = $2
RETURNING tenant_id, id, email, name, role, is_installation_admin, is_active, created_at, last_login_at, password_changed_at;

-- name: owners_left :value
-- Active owners of a tenant besides one user, locked so that two cannot leave at the same time.
SELECT count(*) FROM (
  SELECT FROM users WHERE tenant_id = $1 AND id <> $2 AND role = 'owner' AND is_active ORDER BY id FOR UPDATE
) o;

-- name: user_password :run
-- Set a password's hash.
UPDATE users SET password_hash = $3, password_changed_at = clock_timestamp() WHERE tenant_id = $1 AND id = $2;

-- name: user_rehash :run
-- Keep the same password under a hash of today's cost, if nobody changed it meanwhile.
UPDATE users SET password_hash = $4 WHERE tenant_id = $1 AND id = $2 AND password_hash = $3;

-- name: user_signed_in :run
-- Note a sign-in.
UPDATE users SET last_login_at = now() WHERE tenant_id = $1 AND id = $2;

-- name: login_candidates :many
-- Active users with an address, in one tenant where its name or id was given.
-- tenant: none, because the tenant is found by signing in
SELECT u.tenant_id, u.id, u.email, u.role, u.is_installation_admin, u.password_hash
FROM users u JOIN tenants t ON t.id = u.tenant_id
WHERE u.email = $1 AND u.is_active AND ($2 = '' OR t.name = $2 OR t.id::text = $2)
LIMIT 2;

-- name: attempt_begin :one
-- Count an attempt before its password is looked at, so that parallel guesses count too; the limit starts the lock.
-- tenant: none, because addresses are counted whether any tenant has them or not
INSERT INTO login_attempts AS a (email_hash, failed_count, ends_at) VALUES ($1, 1, now() + make_interval(secs => $3))
ON CONFLICT (email_hash) DO UPDATE SET
  failed_count = CASE WHEN a.ends_at <= now() THEN 1 ELSE a.failed_count + 1 END,
  ends_at = CASE WHEN a.ends_at <= now() OR a.failed_count + 1 = $2 THEN now() + make_interval(secs => $3) ELSE a.ends_at END
RETURNING failed_count, greatest(1, ceil(extract(epoch FROM ends_at - now())))::int AS left_s;

-- name: attempt_forget :run
-- An administrator of the installation unlocked the address.
-- tenant: none, because addresses are counted whether any tenant has them or not
DELETE FROM login_attempts WHERE email_hash = $1;

-- name: attempt_forgive :run
-- The password was right, or the one tenant that has the address unlocked it: start counting anew. Of an address that
-- several tenants have only the `$3` right attempts are taken back: no tenant may give guesses at another's password.
-- tenant: none, because it asks whether other tenants have the address
WITH shared AS (SELECT count(*) > 1 AS is_shared FROM users WHERE email = $2),
taken_back AS (
  UPDATE login_attempts SET failed_count = failed_count - $3 WHERE email_hash = $1 AND (SELECT is_shared FROM shared)
)
DELETE FROM login_attempts WHERE email_hash = $1 AND NOT (SELECT is_shared FROM shared);

-- name: attempts_prune :run
-- Take away what has ended, a little at a time.
-- tenant: none, because addresses are counted whether any tenant has them or not
DELETE FROM login_attempts WHERE email_hash IN (
  SELECT email_hash FROM login_attempts WHERE ends_at < now() ORDER BY ends_at LIMIT 10 FOR UPDATE SKIP LOCKED
);

-- name: session_add :one
-- Begin a session.
INSERT INTO sessions (tenant_id, token_hash, user_id, expires_at, ip, user_agent)
VALUES ($1, $2, $3, now() + make_interval(secs => $4), $5, $6) RETURNING created_at, expires_at;

-- name: session_find :one
-- Who is behind a session that neither its idle nor its absolute limit has ended.
-- tenant: none, because the token names its tenant
SELECT s.tenant_id, s.user_id, s.token_hash, s.created_at, s.seen_at, s.expires_at, u.email, u.name, u.role, u.is_installation_admin,
       s.seen_at < now() - make_interval(secs => $3) AS is_stale
FROM sessions s JOIN users u ON u.tenant_id = s.tenant_id AND u.id = s.user_id
WHERE s.token_hash = $1 AND s.expires_at > now() AND s.seen_at > now() - make_interval(secs => $2) AND u.is_active;

-- name: session_touch :run
-- Note that a session is in use.
UPDATE sessions SET seen_at = now() WHERE tenant_id = $1 AND token_hash = $2;

-- name: session_end :run
-- End one session.
DELETE FROM sessions WHERE tenant_id = $1 AND token_hash = $2;

-- name: session_end_own :run
-- End a session by its token alone: the one a browser brought to a new sign-in.
-- tenant: none, because the token names its tenant
DELETE FROM sessions WHERE token_hash = $1;

-- name: sessions_end_others :run
-- End every session of a user but one.
DELETE FROM sessions WHERE tenant_id = $1 AND user_id = $2 AND token_hash <> $3;

-- name: sessions_end_all :run
-- End every session of a user.
DELETE FROM sessions WHERE tenant_id = $1 AND user_id = $2;

-- name: sessions_of :many
-- The sessions of a user, newest use first.
SELECT tenant_id, token_hash, user_id, created_at, seen_at, expires_at, ip, user_agent FROM sessions
WHERE tenant_id = $1 AND user_id = $2 AND expires_at > now() AND seen_at > now() - make_interval(secs => $3)
ORDER BY seen_at DESC, token_hash LIMIT 200;

-- name: sessions_prune :run
-- Take away sessions that have ended.
-- tenant: none, because upkeep does it for all tenants at once
DELETE FROM sessions WHERE expires_at < now() OR seen_at < now() - make_interval(secs => $1);

-- name: key_add :one
-- Make a key of which only the hash is kept.
INSERT INTO api_keys (tenant_id, name, prefix, key_hash, role, scopes, created_by, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING tenant_id, id, name, prefix, role, scopes, created_by, created_at, expires_at, revoked_at, last_used_at;

-- name: key_find :one
-- Whose key this is, if it is neither revoked nor expired.
-- tenant: none, because the key names its tenant
SELECT tenant_id, id, name, role, scopes, last_used_at IS NULL OR last_used_at < now() - interval '60 s' AS is_stale
FROM api_keys WHERE key_hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- name: key_touch :run
-- Note that a key is in use, once a minute.
UPDATE api_keys SET last_used_at = now() WHERE tenant_id = $1 AND id = $2;

-- name: key_get :one
-- One key of a tenant.
SELECT tenant_id, id, name, prefix, role, scopes, created_by, created_at, expires_at, revoked_at, last_used_at
FROM api_keys WHERE tenant_id = $1 AND id = $2;

-- name: key_revoke :one
-- Revoke a key; one that was revoked keeps its time.
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE tenant_id = $1 AND id = $2
RETURNING tenant_id, id, name, prefix, role, scopes, created_by, created_at, expires_at, revoked_at, last_used_at;

-- name: keys_before :many
-- A page of a tenant's keys, newest first.
SELECT tenant_id, id, name, prefix, role, scopes, created_by, created_at, expires_at, revoked_at, last_used_at
FROM api_keys WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3;

-- name: tenant_quota_set :value
-- How many messages of a tenant may be open; null: as many as the installation says. Gives what it was, in a row of its own.
-- tenant: none, because the row is the tenant itself
UPDATE tenants t SET open_most = $2 FROM (SELECT id, open_most FROM tenants WHERE id = $1 FOR UPDATE) was
WHERE t.id = was.id RETURNING coalesce(was.open_most, -1);

-- name: tenant_budget_set :run
-- Set the limits of a tenant's spending; null: none.
-- tenant: none, because the row is the tenant itself
UPDATE tenants SET daily_budget_cents = $2, monthly_budget_cents = $3 WHERE id = $1;
