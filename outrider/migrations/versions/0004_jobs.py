"""Make the jobs: our tables, the schema of DBOS for their runs, and the only doors between the two.

Everything is made in one transaction. `outrider_jobs` owns the schema `outrider_dbos`; nobody else has rights on it.
"""

from __future__ import annotations

from importlib import resources

from alembic import op

from outrider import migrations
from outrider.migrations.rights import ALL, READERS, guard, make_role, statements

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

DBOS_SCHEMA_VERSION = 125

TABLES = """
CREATE TABLE job_queues (              -- installation-wide; a row is a queue
  name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_-]{0,39}$'),
  concurrency int CHECK (concurrency BETWEEN 1 AND 1000),                -- jobs at once over all processes; null: no limit
  worker_concurrency int CHECK (worker_concurrency BETWEEN 1 AND 1000),  -- in one process; null: OUTRIDER_QUEUE_CONCURRENCY
  paused_at timestamptz, paused_by text, pause_reason text,
  closed_at timestamptz, closed_by text, close_reason text,              -- closed: takes no new jobs (a drain)
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE job_workers (             -- a process that runs jobs: what it can run, what it is running
  id uuid PRIMARY KEY, started_at timestamptz NOT NULL DEFAULT now(), heartbeat_at timestamptz NOT NULL DEFAULT now(),
  host text NOT NULL, place text NOT NULL, pid int NOT NULL,           -- place: boot and pid namespace, within which a pid means something
  types text[] NOT NULL, queues text[] NOT NULL, running text[] NOT NULL DEFAULT '{}',
  is_stopping boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);
CREATE TABLE jobs (                    -- one row per job; each time it is begun is a run, claimed through DBOS
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), type text NOT NULL, queue text NOT NULL REFERENCES job_queues (name),
  arguments jsonb NOT NULL DEFAULT '{}', priority smallint NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 9), dedup_key text,
  state text NOT NULL CHECK (state IN ('scheduled', 'enqueued', 'processing', 'succeeded', 'failed', 'deleted')), reason text NOT NULL DEFAULT '',
  run int NOT NULL DEFAULT 0, attempt smallint NOT NULL DEFAULT 0, max_attempts smallint NOT NULL CHECK (max_attempts BETWEEN 1 AND 100),
  crashes smallint NOT NULL DEFAULT 0, timeout_s int NOT NULL CHECK (timeout_s BETWEEN 1 AND 86400), run_at timestamptz NOT NULL DEFAULT now(),
  run_token uuid, worker_id uuid, changes int NOT NULL DEFAULT 1,
  created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), changed_at timestamptz NOT NULL DEFAULT now(),
  waiting_since timestamptz, started_at timestamptz, deadline_at timestamptz, finished_at timestamptz,
  progress_done bigint, progress_total bigint, progress_note text NOT NULL DEFAULT '', progress_from bigint, progress_since timestamptz, progress_at timestamptz,
  cancel_requested_at timestamptz, cancel_by text, cancel_reason text,
  result jsonb, error_code text, error text, schedule_id uuid, planned_at timestamptz,
  PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02);
CREATE UNIQUE INDEX jobs_dedup ON jobs (tenant_id, type, dedup_key) WHERE dedup_key IS NOT NULL AND state IN ('scheduled', 'enqueued', 'processing');
CREATE UNIQUE INDEX jobs_planned ON jobs (tenant_id, schedule_id, planned_at) WHERE schedule_id IS NOT NULL AND planned_at IS NOT NULL;
CREATE INDEX jobs_state ON jobs (tenant_id, state, id);
CREATE INDEX jobs_type ON jobs (tenant_id, type, id);
CREATE INDEX jobs_due ON jobs (run_at) WHERE state = 'scheduled';
CREATE INDEX jobs_waiting ON jobs (queue, waiting_since) WHERE state = 'enqueued';
CREATE INDEX jobs_running ON jobs (worker_id) WHERE state = 'processing';
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE state IN ('succeeded', 'failed', 'deleted');
CREATE TABLE job_states (              -- append-only: every state a job was in, why, through whom
  tenant_id uuid NOT NULL, job_id uuid NOT NULL, seq int NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(),
  state text NOT NULL, reason text NOT NULL DEFAULT '', actor text NOT NULL DEFAULT '', worker_id uuid, attempt smallint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, job_id, seq),
  FOREIGN KEY (tenant_id, job_id) REFERENCES jobs (tenant_id, id) ON DELETE CASCADE
);
"""

PRESETS = """
INSERT INTO job_queues (name) VALUES ('default'), ('import'), ('campaign'), ('report'), ('export'), ('maintenance')
"""

# Run ids are `<tenant>/<job>/<number of the run>`. A session of the app role reaches the runs of its own tenant only.
MAY = """
CREATE FUNCTION outrider_run_id(tenant uuid, job uuid, run int) RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF current_setting('role', true) = 'outrider_app' AND tenant IS DISTINCT FROM NULLIF(current_setting('app.tenant', true), '')::uuid THEN
    RAISE insufficient_privilege USING MESSAGE = 'the run of another tenant';
  END IF;
  RETURN tenant::text || '/' || job::text || '/' || run::text;
END $$
"""
ADD = """
CREATE FUNCTION outrider_run_add(tenant uuid, job uuid, run int, queue text, priority int) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  now_ms bigint := extract(epoch FROM clock_timestamp()) * 1000;
BEGIN
  INSERT INTO outrider_dbos.workflow_status (workflow_uuid, status, name, queue_name, priority, application_version, application_name,
    created_at, updated_at, recovery_attempts, serialization, inputs)
  VALUES (public.outrider_run_id(tenant, job, run), 'ENQUEUED', 'run', queue, priority, 'outrider', 'outrider',
    now_ms, now_ms, 0, 'portable_json', '{"positionalArgs":[],"namedArgs":{}}')
  ON CONFLICT (workflow_uuid) DO NOTHING;
  PERFORM pg_notify('outrider_jobs', queue);
END $$
"""
REMOVE = """
CREATE FUNCTION outrider_run_remove(tenant uuid, job uuid, run int) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  gone text := public.outrider_run_id(tenant, job, run);
BEGIN
  DELETE FROM outrider_dbos.workflow_output WHERE workflow_uuid = gone;
  DELETE FROM outrider_dbos.workflow_status WHERE workflow_uuid = gone;
  RETURN FOUND;
END $$
"""
READY = """
CREATE FUNCTION outrider_runs_ready(queues text[]) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT q FROM unnest(queues) q
  WHERE EXISTS (SELECT FROM outrider_dbos.workflow_status w WHERE w.queue_name = q AND w.status = 'ENQUEUED')
$$
"""
CLAIMED = """
CREATE FUNCTION outrider_runs_claimed() RETURNS TABLE (run_id text, worker text, claimed_s float8)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT w.workflow_uuid, w.executor_id, (extract(epoch FROM clock_timestamp()) * 1000 - w.started_at_epoch_ms)::float8 / 1000
  FROM outrider_dbos.workflow_status w WHERE w.status = 'PENDING'
$$
"""
OPEN = """
CREATE FUNCTION outrider_runs_open(runs text[]) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT w.workflow_uuid FROM outrider_dbos.workflow_status w WHERE w.workflow_uuid = ANY (runs) AND w.status IN ('ENQUEUED', 'PENDING')
$$
"""
SWEEP = """
CREATE FUNCTION outrider_runs_sweep(keep_s int, most int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  gone text[];
BEGIN
  SELECT array_agg(workflow_uuid) INTO gone FROM (
    SELECT workflow_uuid FROM outrider_dbos.workflow_status
    WHERE completed_at < extract(epoch FROM clock_timestamp()) * 1000 - keep_s * 1000.0 ORDER BY completed_at LIMIT most FOR UPDATE SKIP LOCKED) w;
  IF gone IS NULL THEN RETURN 0; END IF;
  DELETE FROM outrider_dbos.workflow_output WHERE workflow_uuid = ANY (gone);
  DELETE FROM outrider_dbos.workflow_status WHERE workflow_uuid = ANY (gone);
  RETURN cardinality(gone);
END $$
"""
DOORS = (MAY, ADD, REMOVE, READY, CLAIMED, OPEN, SWEEP)
DOORS_OF_THE_APP = "outrider_run_id(uuid, uuid, int), outrider_run_add(uuid, uuid, int, text, int), outrider_run_remove(uuid, uuid, int)"
DOORS_OF_THE_ENGINE = (
    "outrider_runs_ready(text[]), outrider_runs_claimed(), outrider_runs_open(text[]), outrider_runs_sweep(int, int)"
)


def dbos_schema() -> list[str]:
    """The statements that make the schema of the pinned DBOS."""
    script = resources.files(migrations).joinpath(f"dbos_{DBOS_SCHEMA_VERSION}.ddl").read_text(encoding="utf-8")
    return [part.strip() for part in script.split("\n--;\n")[1:]]


def upgrade() -> None:
    """Make the role, the tables, the schema of DBOS and the doors."""
    make_role("outrider_jobs")
    op.execute("SET LOCAL ROLE outrider_owner")
    for statement in statements(TABLES):
        op.execute(statement)
    op.execute(PRESETS)
    guard("jobs", "SELECT, INSERT, UPDATE")
    guard("job_states", "SELECT, INSERT")
    op.execute(f"GRANT {ALL} ON job_queues, job_workers TO outrider_engine")
    op.execute(f"GRANT SELECT ON job_queues, job_workers TO outrider_app, {READERS}")
    op.execute("RESET ROLE")
    op.execute("CREATE SCHEMA outrider_dbos AUTHORIZATION outrider_jobs")
    op.execute("GRANT USAGE, CREATE ON SCHEMA public TO outrider_jobs")  # CREATE until the doors are made
    op.execute("SET LOCAL ROLE outrider_jobs")
    for statement in dbos_schema():
        op.execute(statement)
    op.execute(f"INSERT INTO outrider_dbos.dbos_migrations (version) VALUES ({DBOS_SCHEMA_VERSION})")
    op.execute("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA outrider_dbos FROM PUBLIC")
    for door in DOORS:
        op.execute(door)
    op.execute(f"REVOKE ALL ON FUNCTION {DOORS_OF_THE_APP}, {DOORS_OF_THE_ENGINE} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {DOORS_OF_THE_APP} TO outrider_app, outrider_engine, outrider_owner")
    op.execute(f"GRANT EXECUTE ON FUNCTION {DOORS_OF_THE_ENGINE} TO outrider_engine, outrider_owner")
    op.execute("RESET ROLE")
    op.execute("REVOKE CREATE ON SCHEMA public FROM outrider_jobs")


def downgrade() -> None:
    """Refuse: jobs that wait would be lost."""
    raise RuntimeError("jobs cannot be taken away; drop the database instead")
