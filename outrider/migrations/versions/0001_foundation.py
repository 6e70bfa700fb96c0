"""Make the foundation: roles, nouns, the message ledger and its queue.

Everything is made in one transaction by `outrider_owner`; a kill at any statement leaves nothing behind.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROLES = ("outrider_owner", "outrider_app", "outrider_engine", "outrider_ops", "outrider_readonly", "outrider_backup")

CONTROL = """
CREATE TABLE installation (            -- one row: what concerns every tenant at once
  id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
  installation_id uuid NOT NULL DEFAULT gen_random_uuid(),
  switch_epoch bigint NOT NULL DEFAULT 1,           -- grows with every pause and resume; workers compare it
  maintenance_since timestamptz, maintenance_reason text, maintenance_by text,
  key_id text, key_check text,                      -- sealed with the secret key: a wrong key is found at start
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE audit_heads (             -- the tip of each tenant's hash chain; locked while an entry is appended
  tenant_id uuid PRIMARY KEY, seq bigint NOT NULL, hash bytea NOT NULL
);
CREATE TABLE audit_log (               -- append-only hash chain per tenant; NIL is the installation's
  tenant_id uuid NOT NULL, seq bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(),
  actor_kind text NOT NULL, actor text NOT NULL, action text NOT NULL, target_kind text NOT NULL, target_id text NOT NULL,
  reason text NOT NULL DEFAULT 'not given', details jsonb NOT NULL DEFAULT '{}', ip text,
  previous_hash bytea NOT NULL, hash bytea NOT NULL,
  PRIMARY KEY (tenant_id, seq)
);
CREATE INDEX audit_log_at ON audit_log (tenant_id, at);
CREATE TABLE tenants (
  id uuid PRIMARY KEY DEFAULT outrider_id(), name text NOT NULL UNIQUE, timezone text NOT NULL DEFAULT 'UTC',
  settings jsonb NOT NULL DEFAULT '{}', created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE users (
  tenant_id uuid NOT NULL REFERENCES tenants (id), id uuid NOT NULL DEFAULT outrider_id(),
  email text NOT NULL, name text NOT NULL DEFAULT '', password_hash text NOT NULL,
  role text NOT NULL CHECK (role IN ('owner', 'admin', 'operator', 'support', 'viewer')),
  is_installation_admin boolean NOT NULL DEFAULT false, is_active boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now(), last_login_at timestamptz, password_changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, email)
);
CREATE INDEX users_email ON users (email);
CREATE TABLE login_attempts (          -- wrong passwords per e-mail address, known or not: locking tells nobody which exist
  email_hash bytea PRIMARY KEY, failed_count int NOT NULL, ends_at timestamptz NOT NULL
);
CREATE INDEX login_attempts_ends ON login_attempts (ends_at);
CREATE TABLE sessions (
  tenant_id uuid NOT NULL, token_hash bytea NOT NULL, user_id uuid NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(), seen_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz NOT NULL,
  ip text, user_agent text,
  PRIMARY KEY (tenant_id, token_hash), FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX sessions_token ON sessions (token_hash);
CREATE INDEX sessions_user ON sessions (tenant_id, user_id);
CREATE TABLE api_keys (
  tenant_id uuid NOT NULL REFERENCES tenants (id), id uuid NOT NULL DEFAULT outrider_id(), name text NOT NULL,
  prefix text NOT NULL, key_hash bytea NOT NULL, role text NOT NULL CHECK (role IN ('owner', 'admin', 'operator', 'support', 'viewer')),
  scopes text[] NOT NULL DEFAULT '{}', created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz, revoked_at timestamptz, last_used_at timestamptz,
  PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX api_keys_hash ON api_keys (key_hash);
CREATE TABLE contacts (
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), external_id text, name text NOT NULL DEFAULT '',
  attributes jsonb NOT NULL DEFAULT '{}', timezone text, locale text,
  created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, external_id)
);
CREATE TABLE addresses (               -- an address belongs to one contact per tenant and channel
  tenant_id uuid NOT NULL, channel text NOT NULL, address text NOT NULL, contact_id uuid NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, channel, address),
  FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX addresses_contact ON addresses (tenant_id, contact_id, channel);
CREATE TABLE consents (                -- the state that holds now, per contact, channel and purpose
  tenant_id uuid NOT NULL, contact_id uuid NOT NULL, channel text NOT NULL, purpose text NOT NULL,
  status text NOT NULL CHECK (status IN ('granted', 'withdrawn')), at timestamptz NOT NULL DEFAULT now(), source text NOT NULL,
  PRIMARY KEY (tenant_id, contact_id, channel, purpose)
);
CREATE TABLE consent_events (          -- append-only: the proof
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), contact_id uuid NOT NULL, channel text NOT NULL, purpose text NOT NULL,
  status text NOT NULL, at timestamptz NOT NULL DEFAULT now(), source text NOT NULL, ip text, text_shown text, form_version text,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX consent_events_contact ON consent_events (tenant_id, contact_id);
CREATE TABLE suppressions (            -- do-not-contact; tenant NIL is the installation's; keyed by hash so that erasure keeps it
  tenant_id uuid NOT NULL, channel text NOT NULL, address_hash bytea NOT NULL, address text,
  scope text NOT NULL DEFAULT 'all' CHECK (scope IN ('all', 'bulk')),
  reason text NOT NULL, source text NOT NULL, note text NOT NULL DEFAULT '', created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, channel, address_hash)
);
CREATE TABLE lists (
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), name text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, name)
);
CREATE TABLE list_members (
  tenant_id uuid NOT NULL, list_id uuid NOT NULL, contact_id uuid NOT NULL, added_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, list_id, contact_id),
  FOREIGN KEY (tenant_id, list_id) REFERENCES lists (tenant_id, id) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts (tenant_id, id) ON DELETE CASCADE
);
CREATE TABLE imports (
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), file_name text NOT NULL, sha256 bytea NOT NULL, size_bytes bigint NOT NULL,
  list_id uuid, options jsonb NOT NULL DEFAULT '{}', state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'completed', 'failed', 'cancelled')),
  row_count bigint NOT NULL DEFAULT 0, created_count bigint NOT NULL DEFAULT 0, updated_count bigint NOT NULL DEFAULT 0,
  unchanged_count bigint NOT NULL DEFAULT 0, duplicate_count bigint NOT NULL DEFAULT 0, rejected_count bigint NOT NULL DEFAULT 0,
  suppressed_count bigint NOT NULL DEFAULT 0, kept_withdrawn_count bigint NOT NULL DEFAULT 0, total_count bigint NOT NULL DEFAULT 0,
  checkpoint_line bigint NOT NULL DEFAULT 0, error text, created_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(), progress_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz,
  PRIMARY KEY (tenant_id, id)
);
CREATE TABLE import_errors (
  tenant_id uuid NOT NULL, import_id uuid NOT NULL, line bigint NOT NULL, field text NOT NULL, code text NOT NULL, message text NOT NULL, value text NOT NULL,
  PRIMARY KEY (tenant_id, import_id, line, field),
  FOREIGN KEY (tenant_id, import_id) REFERENCES imports (tenant_id, id) ON DELETE CASCADE
);
CREATE UNLOGGED TABLE contacts_staging ( -- COPY target (COPY is refused under any policy): engine only, emptied in the same transaction
  tenant_id uuid NOT NULL, import_id uuid NOT NULL, line bigint NOT NULL, address text NOT NULL, external_id text, name text NOT NULL,
  attributes jsonb NOT NULL, timezone text, locale text, consent text,
  contact_id uuid NOT NULL, state smallint NOT NULL, -- 1 known by address, 2 by external id, 3 new
  PRIMARY KEY (tenant_id, import_id, line)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000);
CREATE TABLE contents (                -- immutable: what a template version or an inline message says
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), channel text NOT NULL, hash bytea NOT NULL,
  is_template boolean NOT NULL, subject text NOT NULL DEFAULT '', html text, text text, preheader text NOT NULL DEFAULT '',
  compiled jsonb, created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, hash)
);
CREATE TABLE content_attachments (
  tenant_id uuid NOT NULL, content_id uuid NOT NULL, position smallint NOT NULL, name text NOT NULL, content_type text NOT NULL, content bytea NOT NULL,
  PRIMARY KEY (tenant_id, content_id, position),
  FOREIGN KEY (tenant_id, content_id) REFERENCES contents (tenant_id, id) ON DELETE CASCADE
);
CREATE TABLE templates (
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), name text NOT NULL, channel text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(), archived_at timestamptz,
  PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, name)
);
CREATE TABLE template_versions (
  tenant_id uuid NOT NULL, template_id uuid NOT NULL, version int NOT NULL, content_id uuid NOT NULL,
  created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, template_id, version),
  FOREIGN KEY (tenant_id, template_id) REFERENCES templates (tenant_id, id) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, content_id) REFERENCES contents (tenant_id, id)
);
CREATE TABLE connections (             -- an account at a provider; secrets are sealed with the installation's key
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), name text NOT NULL, provider text NOT NULL,
  settings jsonb NOT NULL DEFAULT '{}', sealed_secrets text NOT NULL DEFAULT '', version int NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, name)
);
CREATE TABLE senders (
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), name text NOT NULL, channel text NOT NULL, connection_id uuid NOT NULL,
  from_address text NOT NULL, from_name text NOT NULL DEFAULT '', reply_to text NOT NULL DEFAULT '', return_path text NOT NULL DEFAULT '',
  postal_address text NOT NULL DEFAULT '', dkim jsonb NOT NULL DEFAULT '[]', sealed_dkim text NOT NULL DEFAULT '',
  transactional_guarantee text NOT NULL DEFAULT 'at_least_once' CHECK (transactional_guarantee IN ('at_least_once', 'at_most_once')),
  bulk_guarantee text NOT NULL DEFAULT 'at_most_once' CHECK (bulk_guarantee IN ('at_least_once', 'at_most_once')),
  version int NOT NULL DEFAULT 1, created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(), archived_at timestamptz,
  PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, name),
  FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id)
);
CREATE TABLE buckets (                 -- shared token buckets: send rate per sender and per tenant (docs/decisions: limits late)
  tenant_id uuid NOT NULL, scope text NOT NULL CHECK (scope IN ('tenant', 'sender')), scope_id uuid NOT NULL,
  rate float8 NOT NULL CHECK (rate > 0), cap float8 NOT NULL CHECK (cap >= 1), tokens float8 NOT NULL,
  at_s float8 NOT NULL DEFAULT extract(epoch FROM clock_timestamp()), granted bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, scope, scope_id)
) WITH (fillfactor = 10);
CREATE TABLE switches (                -- a row means: paused. Tenant NIL with scope installation stops everything
  tenant_id uuid NOT NULL, scope text NOT NULL CHECK (scope IN ('installation', 'tenant', 'channel', 'sender', 'campaign')),
  scope_id text NOT NULL, reason text NOT NULL DEFAULT 'not given', actor text NOT NULL, at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, scope, scope_id)
);
CREATE TABLE campaigns (
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), name text NOT NULL, channel text NOT NULL, purpose text NOT NULL DEFAULT 'marketing',
  sender_id uuid NOT NULL, content_id uuid NOT NULL, template_id uuid, template_version int, list_id uuid NOT NULL,
  state text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'sending', 'paused', 'finished', 'cancelled')),
  priority smallint NOT NULL DEFAULT 5, expires_at timestamptz, lane_id int,
  expanded_to uuid, expanded_count bigint NOT NULL DEFAULT 0, expanded_at timestamptz, served_at timestamptz,
  no_address_count bigint NOT NULL DEFAULT 0, preflight jsonb,
  created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), launched_at timestamptz, finished_at timestamptz,
  PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, name),
  FOREIGN KEY (tenant_id, sender_id) REFERENCES senders (tenant_id, id), FOREIGN KEY (tenant_id, content_id) REFERENCES contents (tenant_id, id),
  FOREIGN KEY (tenant_id, list_id) REFERENCES lists (tenant_id, id)
);
CREATE INDEX campaigns_created ON campaigns (tenant_id, created_at);
CREATE INDEX campaigns_open ON campaigns (tenant_id, state) WHERE state IN ('sending', 'paused');
CREATE TABLE workers (                 -- one row per running process with loops
  id uuid PRIMARY KEY, role text NOT NULL, host text NOT NULL, boot_id text NOT NULL, pid int NOT NULL, version text NOT NULL,
  journal text, state text NOT NULL DEFAULT 'running', loops jsonb NOT NULL DEFAULT '{}', health_url text,
  started_at timestamptz NOT NULL DEFAULT now(), heartbeat_at timestamptz NOT NULL DEFAULT now()
);
"""

DATA_PLANE = """
CREATE TABLE lanes (                   -- what messages are queued by; the row is the lock of every claim
  tenant_id uuid NOT NULL, id int NOT NULL GENERATED ALWAYS AS IDENTITY, channel text NOT NULL, sender_id uuid NOT NULL, campaign_id uuid,
  message_class text NOT NULL CHECK (message_class IN ('transactional', 'bulk')), is_open boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id), UNIQUE NULLS NOT DISTINCT (tenant_id, channel, sender_id, campaign_id, message_class)
) WITH (fillfactor = 50);
CREATE TABLE messages (                -- the ledger: inserted once, updated once
  tenant_id uuid NOT NULL, id uuid NOT NULL, lane_id int NOT NULL, campaign_id uuid, contact_id uuid, content_id uuid NOT NULL,
  address text NOT NULL, purpose text NOT NULL, variables jsonb, state text NOT NULL DEFAULT 'queued', priority smallint NOT NULL DEFAULT 5,
  due_at timestamptz NOT NULL, expires_at timestamptz,
  attempts smallint NOT NULL DEFAULT 0, attempted_at timestamptz, finished_at timestamptz, provider_id text, code text, detail text,
  PRIMARY KEY (tenant_id, id)
) PARTITION BY RANGE (id);
-- no index may name state, provider_id, code, attempted_at or finished_at, nor have one in its predicate: it would end HOT updates
CREATE INDEX messages_campaign ON messages (tenant_id, campaign_id, id);
CREATE INDEX messages_address ON messages (tenant_id, address);
CREATE TABLE queue (                   -- one row per open message; deleted on finish. state: 0 ready, 1 leased, 4 scheduled, 5 held
  tenant_id uuid NOT NULL, message_id uuid NOT NULL, lane_id int NOT NULL, due_at timestamptz NOT NULL,
  lease_until timestamptz, token bigint, priority smallint NOT NULL, state smallint NOT NULL,
  attempt smallint NOT NULL DEFAULT 0, crashes smallint NOT NULL DEFAULT 0, attempted_at timestamptz, reason text,
  PRIMARY KEY (tenant_id, message_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.2);
CREATE INDEX queue_ready ON queue (tenant_id, lane_id, priority, due_at, message_id) WHERE state = 0;
CREATE INDEX queue_lease ON queue (tenant_id, lease_until) WHERE state = 1;
CREATE INDEX queue_due ON queue (tenant_id, due_at) WHERE state IN (4, 5);
CREATE INDEX queue_lane ON queue (tenant_id, lane_id, state) WHERE state IN (1, 4, 5);
CREATE SEQUENCE lease_tokens AS bigint INCREMENT BY 1000;
CREATE TABLE message_events (          -- append-only: everything that happened to a message, gate answers included
  tenant_id uuid NOT NULL, message_id uuid NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(), kind text NOT NULL, data jsonb
) PARTITION BY RANGE (message_id);
CREATE INDEX message_events_message ON message_events (tenant_id, message_id, at);
CREATE TABLE campaign_recipients (     -- a contact and an address get a campaign once, whatever is killed half-way
  tenant_id uuid NOT NULL, campaign_id uuid NOT NULL, contact_id uuid NOT NULL, address text NOT NULL, message_id uuid NOT NULL,
  PRIMARY KEY (tenant_id, campaign_id, contact_id), UNIQUE (tenant_id, campaign_id, address)
);
CREATE TABLE uncertain_messages (      -- handed over, answer lost: waits for an operator (or reconciliation)
  tenant_id uuid NOT NULL, message_id uuid NOT NULL, lane_id int NOT NULL, since timestamptz NOT NULL DEFAULT now(), cause text NOT NULL, detail text NOT NULL,
  PRIMARY KEY (tenant_id, message_id)
);
CREATE TABLE idempotency_keys (        -- written in the transaction that accepts
  tenant_id uuid NOT NULL, key text NOT NULL, request_hash bytea NOT NULL, status smallint NOT NULL, body jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, key)
);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);
CREATE TABLE rollup_deltas (           -- appended once per batch, folded every second: no hot row
  tenant_id uuid NOT NULL, lane_id int NOT NULL, hour timestamptz NOT NULL, state text NOT NULL, code text NOT NULL DEFAULT '', n bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
CREATE INDEX rollup_deltas_lane ON rollup_deltas (tenant_id, lane_id);
CREATE TABLE rollups (
  tenant_id uuid NOT NULL, lane_id int NOT NULL, hour timestamptz NOT NULL, state text NOT NULL, code text NOT NULL DEFAULT '', n bigint NOT NULL,
  PRIMARY KEY (tenant_id, lane_id, hour, state, code)
);
"""

VIEW = """
CREATE VIEW message_states WITH (security_invoker = true) AS
SELECT m.tenant_id, m.id, m.lane_id, l.channel, l.sender_id, l.message_class, m.campaign_id, m.contact_id, m.content_id, m.address, m.purpose,
       m.variables, m.priority, m.due_at, m.expires_at, coalesce(q.attempt, m.attempts) AS attempts, coalesce(q.attempted_at, m.attempted_at) AS attempted_at,
       m.finished_at, m.provider_id, m.code, m.detail, q.due_at AS next_at, q.reason AS waiting_for,
       CASE WHEN m.state <> 'queued' OR q.state IS NULL THEN m.state
            WHEN q.state = 1 THEN 'sending' WHEN q.state = 4 THEN 'scheduled' WHEN q.state = 5 THEN 'held' ELSE 'queued' END AS state
FROM messages m
JOIN lanes l ON l.tenant_id = m.tenant_id AND l.id = m.lane_id
LEFT JOIN queue q ON q.tenant_id = m.tenant_id AND q.message_id = m.id
"""

MINT_18 = "CREATE FUNCTION outrider_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS 'SELECT uuidv7()'"
MINT = """
CREATE FUNCTION outrider_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
  SELECT (lpad(to_hex(us / 1000), 12, '0') || to_hex(28672 + ((us % 1000) * 4096 / 1000)::int) || substr(gen_random_uuid()::text, 20))::uuid
  FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS us OFFSET 0) t
$$
"""

PARTITIONS = """
CREATE FUNCTION outrider_make_partitions(ahead int) RETURNS int LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
  month timestamptz; made int := 0; parent text; name text; low text; high text; fill int; key text;
BEGIN
  FOR month IN SELECT generate_series(date_trunc('month', now(), 'UTC') - interval '1 month', date_trunc('month', now(), 'UTC') + ahead * interval '1 month', interval '1 month') LOOP
    low := lpad(to_hex((extract(epoch FROM month) * 1000)::bigint), 12, '0') || '00000000000000000000';
    high := lpad(to_hex((extract(epoch FROM ((month AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC') * 1000)::bigint), 12, '0') || '00000000000000000000';
    FOREACH parent IN ARRAY ARRAY['messages', 'message_events'] LOOP
      name := parent || '_' || to_char(month AT TIME ZONE 'UTC', 'YYYYMM');
      IF to_regclass('public.' || name) IS NULL THEN
        fill := CASE parent WHEN 'messages' THEN 50 ELSE 100 END;
        key := CASE parent WHEN 'messages' THEN 'id' ELSE 'message_id' END;
        BEGIN
          EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L) WITH (fillfactor=%s, autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_cost_delay=0)',
                         name, parent, low::uuid, high::uuid, fill);
        EXCEPTION WHEN check_violation THEN  -- rows of this month lie in the default partition: move them into their own
          EXECUTE format('LOCK TABLE public.%I IN ACCESS EXCLUSIVE MODE', parent || '_default');
          EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS) WITH (fillfactor=%s, autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_cost_delay=0)',
                         name, parent, fill);
          EXECUTE format('WITH moved AS (DELETE FROM public.%I WHERE %I >= %L AND %I < %L RETURNING *) INSERT INTO public.%I SELECT * FROM moved',
                         parent || '_default', key, low::uuid, key, high::uuid, name);
          EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)', parent, name, low::uuid, high::uuid);
        END;
        made := made + 1;
      END IF;
    END LOOP;
  END LOOP;
  RETURN made;
END $$
"""

DROP_MONTH = """
CREATE FUNCTION outrider_drop_month(month text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  IF month !~ '^[0-9]{6}$' THEN RAISE EXCEPTION 'not a month: %', month; END IF;
  EXECUTE format('DROP TABLE IF EXISTS public.%I', 'messages_' || month);
  EXECUTE format('DROP TABLE IF EXISTS public.%I', 'message_events_' || month);
  RETURN true;
END $$
"""

ROWS_OUTSIDE = """
CREATE FUNCTION outrider_rows_outside() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT EXISTS (SELECT FROM public.messages_default) OR EXISTS (SELECT FROM public.message_events_default)
$$
"""

# table -> (column that names the tenant, what the app role may do, do rows of NIL show to every tenant)
ALL = "SELECT, INSERT, UPDATE, DELETE"
TENANT_TABLES: dict[str, tuple[str, str, bool]] = {
    "audit_heads": ("tenant_id", "SELECT, INSERT, UPDATE", False),
    "audit_log": ("tenant_id", "SELECT, INSERT", False),
    "tenants": ("id", "SELECT, UPDATE", False),
    "users": ("tenant_id", ALL, False),
    "sessions": ("tenant_id", ALL, False),
    "api_keys": ("tenant_id", ALL, False),
    "contacts": ("tenant_id", ALL, False),
    "addresses": ("tenant_id", ALL, False),
    "consents": ("tenant_id", ALL, False),
    "consent_events": ("tenant_id", "SELECT, INSERT", False),
    "suppressions": ("tenant_id", ALL, True),
    "lists": ("tenant_id", ALL, False),
    "list_members": ("tenant_id", ALL, False),
    "imports": ("tenant_id", ALL, False),
    "import_errors": ("tenant_id", ALL, False),
    "contents": ("tenant_id", ALL, False),
    "content_attachments": ("tenant_id", ALL, False),
    "templates": ("tenant_id", ALL, False),
    "template_versions": ("tenant_id", ALL, False),
    "connections": ("tenant_id", ALL, False),
    "senders": ("tenant_id", ALL, False),
    "buckets": ("tenant_id", ALL, False),
    "switches": ("tenant_id", ALL, True),
    "campaigns": ("tenant_id", ALL, False),
    "lanes": ("tenant_id", "SELECT", False),
    "messages": ("tenant_id", "SELECT", False),
    "queue": ("tenant_id", "SELECT", False),
    "message_events": ("tenant_id", "SELECT", False),
    "campaign_recipients": ("tenant_id", "SELECT", False),
    "uncertain_messages": ("tenant_id", "SELECT", False),
    "idempotency_keys": ("tenant_id", "SELECT", False),
    "rollup_deltas": ("tenant_id", "SELECT", False),
    "rollups": ("tenant_id", "SELECT", False),
}
READERS = "outrider_ops, outrider_readonly, outrider_backup"


def statements(script: str) -> list[str]:
    """Split a script without dollar quotes into its statements; comments are cut first."""
    plain = "\n".join(line.split("--")[0] for line in script.splitlines())
    return [part.strip() for part in plain.split(";\n") if part.strip()]


def make_roles() -> None:
    """Make the roles where they are missing and let the login role take each, one at a time."""
    for role in ROLES:
        op.execute(
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role} NOLOGIN; END IF; "
            f"EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        )
        op.execute(
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid "
            f"WHERE r.rolname = '{role}' AND m.member = current_user::regrole AND m.set_option AND NOT m.inherit_option) "
            f"THEN EXECUTE format('GRANT {role} TO %I WITH INHERIT FALSE, SET TRUE', current_user); END IF; END $$"
        )
    op.execute("GRANT USAGE, CREATE ON SCHEMA public TO outrider_owner")
    op.execute(f"GRANT USAGE ON SCHEMA public TO outrider_app, outrider_engine, {READERS}")


def keep_out_of_the_schema() -> None:
    """Take from everybody the right to make temporary tables: nobody who works may make any, and they stay pooled."""
    op.execute(
        "DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); "
        "EXCEPTION WHEN insufficient_privilege THEN NULL; END $$"
    )


def guard(table: str, tenant_column: str, privileges: str, *, shows_nil: bool) -> None:
    """Force row-level security: one tenant for the app role, everything for owner and engine, reading for readers."""
    mine = f"{tenant_column} = NULLIF(current_setting('app.tenant', true), '')::uuid"
    seen = f"{mine} OR {tenant_column} = '00000000-0000-0000-0000-000000000000'" if shows_nil else mine
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY app_reads ON {table} FOR SELECT TO outrider_app USING ({seen})")
    op.execute(f"CREATE POLICY app_inserts ON {table} FOR INSERT TO outrider_app WITH CHECK ({mine})")
    op.execute(f"CREATE POLICY app_updates ON {table} FOR UPDATE TO outrider_app USING ({mine}) WITH CHECK ({mine})")
    op.execute(f"CREATE POLICY app_deletes ON {table} FOR DELETE TO outrider_app USING ({mine})")
    op.execute(f"CREATE POLICY bypass ON {table} TO outrider_owner, outrider_engine USING (true) WITH CHECK (true)")
    op.execute(f"CREATE POLICY readers ON {table} FOR SELECT TO {READERS} USING (true)")
    op.execute(f"GRANT {privileges} ON {table} TO outrider_app")
    op.execute(f"GRANT {ALL} ON {table} TO outrider_engine")
    secret = {"users", "sessions", "api_keys", "connections", "senders"}
    op.execute(f"GRANT SELECT ON {table} TO {'outrider_backup' if table in secret else READERS}")


def upgrade() -> None:
    """Make everything."""
    make_roles()
    keep_out_of_the_schema()
    op.execute("SET LOCAL ROLE outrider_owner")
    version = op.get_bind().exec_driver_sql("SELECT current_setting('server_version_num')::int").scalar_one()
    op.execute(MINT_18 if version >= 180000 else MINT)  # noqa: PLR2004 - uuidv7() exists from PostgreSQL 18 on
    for statement in (*statements(CONTROL), *statements(DATA_PLANE)):
        op.execute(statement)
    op.execute(PARTITIONS)
    op.execute(DROP_MONTH)
    for parent in ("messages", "message_events"):
        op.execute(f"CREATE TABLE {parent}_default PARTITION OF {parent} DEFAULT")
    op.execute("SELECT outrider_make_partitions(3)")
    op.execute(ROWS_OUTSIDE)
    for function in ("outrider_rows_outside()", "outrider_make_partitions(int)", "outrider_drop_month(text)"):
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION outrider_rows_outside() TO outrider_engine")
    for table, (column, privileges, shows_nil) in TENANT_TABLES.items():
        guard(table, column, privileges, shows_nil=shows_nil)
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON contacts_staging, workers TO outrider_engine")
    op.execute("GRANT SELECT, UPDATE ON installation TO outrider_engine")
    op.execute("GRANT INSERT ON tenants TO outrider_engine")
    op.execute(
        "GRANT SELECT (id, installation_id, switch_epoch, maintenance_since, maintenance_reason, maintenance_by, created_at) ON installation TO outrider_app"
    )
    op.execute(
        "GRANT UPDATE (switch_epoch) ON installation TO outrider_app"
    )  # pause and resume run under row-level security
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON login_attempts TO outrider_engine")
    op.execute("GRANT SELECT ON login_attempts TO outrider_backup")
    op.execute(f"GRANT SELECT ON workers TO outrider_app, {READERS}")
    op.execute("GRANT SELECT ON installation TO outrider_ops, outrider_readonly, outrider_backup")
    op.execute("GRANT USAGE ON SEQUENCE lease_tokens TO outrider_engine")
    op.execute(VIEW)
    op.execute(f"GRANT SELECT ON message_states TO outrider_app, outrider_engine, {READERS}")
    op.execute("INSERT INTO installation DEFAULT VALUES")
    op.execute("INSERT INTO tenants (id, name) VALUES ('00000000-0000-0000-0000-000000000001', 'default')")
    op.execute("RESET ROLE")
    op.execute(f"GRANT SELECT ON alembic_version TO outrider_app, outrider_engine, {READERS}")  # does the schema fit?


def downgrade() -> None:
    """Refuse: the first migration has nothing to go back to."""
    raise RuntimeError("the foundation cannot be taken away; drop the database instead")
