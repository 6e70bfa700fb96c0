"""Make schedules and the record of their runs, and the one clock by which they are decided."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import ALL, guard

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = (
    """
CREATE TABLE schedules (               -- when a job is enqueued by itself; tenant NIL is the installation's: its upkeep
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), name text NOT NULL,
  job_type text NOT NULL, arguments jsonb NOT NULL DEFAULT '{}', priority smallint NOT NULL DEFAULT 5,
  cron text NOT NULL, timezone text NOT NULL, misfire text NOT NULL DEFAULT 'once' CHECK (misfire IN ('once', 'all', 'skip')),
  grace_s int NOT NULL, jitter_s int NOT NULL, starts_at timestamptz, ends_at timestamptz CHECK (ends_at > starts_at),
  is_standing boolean NOT NULL DEFAULT false,       -- comes with Outrider: may be changed and paused, not deleted
  paused_at timestamptz, paused_by text, pause_reason text,
  handled_at timestamptz NOT NULL, handled_wall timestamp, -- every planned time up to here was decided about; and the local time it had
  next_at timestamptz, due_at timestamptz,          -- the next planned time, and the same with its jitter; null: none any more
  offset_s int NOT NULL DEFAULT 0, rules text NOT NULL DEFAULT '', problem text, -- the zone's offset and the version of its rules then
  created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, name)
)""",
    "CREATE INDEX schedules_due ON schedules (due_at) WHERE paused_at IS NULL AND due_at IS NOT NULL",
    """
CREATE TABLE schedule_runs (           -- one planned time or one run by hand, and what became of it
  tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT outrider_id(), schedule_id uuid NOT NULL, planned_at timestamptz NOT NULL,
  trigger text NOT NULL CHECK (trigger IN ('scheduled', 'manual')),
  state text NOT NULL CHECK (state IN ('waiting', 'enqueued', 'succeeded', 'failed', 'deleted', 'missed', 'skipped')),
  is_late boolean NOT NULL DEFAULT false, job_id uuid, reason text, actor text NOT NULL, made_up_by uuid,
  recorded_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, schedule_id) REFERENCES schedules (tenant_id, id) ON DELETE CASCADE
)""",
    # a planned time happens once, whoever looks at it; and a schedule never runs twice at once
    "CREATE UNIQUE INDEX schedule_runs_planned ON schedule_runs (tenant_id, schedule_id, planned_at) WHERE trigger = 'scheduled'",
    "CREATE UNIQUE INDEX schedule_runs_one_at_once ON schedule_runs (tenant_id, schedule_id) WHERE state = 'enqueued'",
    "CREATE INDEX schedule_runs_waiting ON schedule_runs (tenant_id, schedule_id, planned_at) WHERE state = 'waiting'",
    "CREATE INDEX schedule_runs_missed ON schedule_runs (tenant_id, schedule_id, planned_at) WHERE state = 'missed' AND made_up_by IS NULL",
    "CREATE INDEX schedule_runs_history ON schedule_runs (tenant_id, schedule_id, planned_at, id)",
    "CREATE INDEX schedule_runs_recorded ON schedule_runs (recorded_at)",
)

CLOCK = """
CREATE FUNCTION outrider_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()'
"""
"""Schedules decide by the database's clock and by nothing else; drills let it leap by replacing this function."""


def upgrade() -> None:
    """Make everything."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for statement in TABLES:
        op.execute("\n".join(line.split("--")[0] for line in statement.splitlines()))
    op.execute(CLOCK)
    for table in ("schedules", "schedule_runs"):
        guard(table, ALL)
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Refuse: the record of what ran and what was missed would be lost."""
    raise RuntimeError("schedules cannot be taken away; drop the database instead")
