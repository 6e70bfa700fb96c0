"""Make what paces need: rates of connections and of destinations, and warm-up plans of senders."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import ALL, guard, statements

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE destination_rates (       -- how fast a mail domain, or the texts of a country, are sent to; tenant NIL: holds for tenants without their own
  tenant_id uuid NOT NULL, channel text NOT NULL, destination text NOT NULL, rate float8 NOT NULL, cap float8 NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, channel, destination),
  CONSTRAINT destination_rates_rate_check CHECK (rate > 0),
  CONSTRAINT destination_rates_cap_check CHECK (cap >= 1)
);
CREATE TABLE destination_buckets (     -- what a tenant may send to a destination now: one bucket for all workers
  tenant_id uuid NOT NULL, channel text NOT NULL, destination text NOT NULL, tokens float8 NOT NULL,
  at_s float8 NOT NULL DEFAULT extract(epoch FROM clock_timestamp()),
  PRIMARY KEY (tenant_id, channel, destination)
) WITH (fillfactor = 10);
CREATE TABLE destination_turns (       -- up to when turns are given out to what a lane has held for a destination
  tenant_id uuid NOT NULL, channel text NOT NULL, destination text NOT NULL, lane_id int NOT NULL, next_s float8 NOT NULL,
  PRIMARY KEY (tenant_id, channel, destination, lane_id)
) WITH (fillfactor = 50);
CREATE TABLE warm_ups (                -- a sender's plan: so many messages on each of its days; the row is the lock
  tenant_id uuid NOT NULL, sender_id uuid NOT NULL, plan text NOT NULL, steps jsonb NOT NULL, starts_on date NOT NULL,
  state text NOT NULL DEFAULT 'running', step int NOT NULL DEFAULT 1,
  day_on date NOT NULL, day_began_at timestamptz NOT NULL, day_ends_at timestamptz NOT NULL, day_sent int NOT NULL DEFAULT 0,
  hour_ends_at timestamptz NOT NULL, hour_sent int NOT NULL DEFAULT 0,
  is_transactional_exempt boolean NOT NULL DEFAULT false, reserve_percent int NOT NULL DEFAULT 10,
  most_bounces_percent float8 NOT NULL DEFAULT 5, most_complaints_percent float8 NOT NULL DEFAULT 0.1,
  note text NOT NULL DEFAULT '', created_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz,
  PRIMARY KEY (tenant_id, sender_id),
  FOREIGN KEY (tenant_id, sender_id) REFERENCES senders (tenant_id, id) ON DELETE CASCADE,
  CONSTRAINT warm_ups_state_check CHECK (state IN ('running', 'paused', 'finished')),
  CONSTRAINT warm_ups_step_check CHECK (step >= 1),
  CONSTRAINT warm_ups_sent_check CHECK (day_sent >= 0 AND hour_sent >= 0),
  CONSTRAINT warm_ups_reserve_check CHECK (reserve_percent BETWEEN 0 AND 50)
) WITH (fillfactor = 10);
CREATE TABLE warm_up_sends (           -- attempts counted in a day of a plan, so that those not sent are taken back
  tenant_id uuid NOT NULL, message_id uuid NOT NULL, token bigint NOT NULL, sender_id uuid NOT NULL, day_on date NOT NULL,
  hour_ends_at timestamptz NOT NULL, at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, message_id, token)
);
CREATE INDEX warm_up_sends_at ON warm_up_sends (at);
"""
GUARDED = {
    "destination_rates": ALL,
    "destination_buckets": ALL,
    "destination_turns": ALL,
    "warm_ups": ALL,
    "warm_up_sends": "SELECT",
}


def upgrade() -> None:
    """Make the tables, and let connections have buckets."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for statement in statements(TABLES):
        op.execute(statement)
    for table, privileges in GUARDED.items():
        guard(table, privileges, shows_nil=table == "destination_rates")
    op.execute("ALTER TABLE buckets DROP CONSTRAINT buckets_scope_check")
    op.execute(
        "ALTER TABLE buckets ADD CONSTRAINT buckets_scope_check "
        "CHECK (scope IN ('tenant', 'sender', 'campaign', 'connection'))"
    )
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away: nothing limits connections and destinations any more, and nobody is warmed up."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("DELETE FROM buckets WHERE scope = 'connection'")
    op.execute("ALTER TABLE buckets DROP CONSTRAINT buckets_scope_check")
    op.execute(
        "ALTER TABLE buckets ADD CONSTRAINT buckets_scope_check CHECK (scope IN ('tenant', 'sender', 'campaign'))"
    )
    for table in reversed(GUARDED):
        op.execute(f"DROP TABLE {table}")
    op.execute("RESET ROLE")
