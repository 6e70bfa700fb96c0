"""Give every event a position from which readers go on without missing one, whatever commits late.

A position is the number of the transaction that wrote the event, plus a base that keeps positions growing when a copy
of this database goes on in another cluster, whose transactions are counted anew. Events from before have position 0.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CLOCKS = """
CREATE TABLE event_clocks (            -- the clusters this database has lived in: how each counts the positions of events
  ordinal int PRIMARY KEY,
  system_identifier bigint NOT NULL UNIQUE,
  base bigint NOT NULL,
  begins_after bigint NOT NULL,        -- the last position when it moved in
  since timestamptz NOT NULL DEFAULT now()
)
"""
# The first process that starts after a move settles the new base, before anything writes an event here.
SETTLE = """
CREATE FUNCTION outrider_settle_event_clock() RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
  here bigint; last bigint; offset_now bigint;
BEGIN
  SELECT system_identifier INTO here FROM pg_control_system();
  IF EXISTS (SELECT FROM public.event_clocks WHERE system_identifier = here) THEN
    RETURN false;
  END IF;
  LOCK TABLE public.event_clocks IN SHARE ROW EXCLUSIVE MODE;
  IF EXISTS (SELECT FROM public.event_clocks WHERE system_identifier = here) THEN
    RETURN false;
  END IF;
  SELECT coalesce(max(newest.position), 0) INTO last
  FROM public.tenants t CROSS JOIN LATERAL (
    SELECT e.position FROM public.message_events e WHERE e.tenant_id = t.id ORDER BY e.position DESC LIMIT 1
  ) newest;
  offset_now := last + 1 - txid_current();
  EXECUTE format('ALTER TABLE public.message_events ALTER COLUMN position SET DEFAULT txid_current() + %s', offset_now);
  INSERT INTO public.event_clocks (ordinal, system_identifier, base, begins_after)
  SELECT count(*), here, offset_now, last FROM public.event_clocks;
  RETURN true;
END $$
"""
READERS = "outrider_app, outrider_engine, outrider_ops, outrider_readonly, outrider_backup"


def upgrade() -> None:
    """Number what is written from now on."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute(CLOCKS)
    op.execute("ALTER TABLE message_events ADD COLUMN position bigint NOT NULL DEFAULT 0")  # not written anew: fast
    op.execute("ALTER TABLE message_events ALTER COLUMN position SET DEFAULT txid_current()")
    op.execute("CREATE INDEX message_events_position ON message_events (tenant_id, position)")
    op.execute(SETTLE)
    op.execute("REVOKE ALL ON FUNCTION outrider_settle_event_clock() FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION outrider_settle_event_clock() TO outrider_engine")
    op.execute(f"GRANT SELECT ON event_clocks TO {READERS}")
    op.execute("SELECT outrider_settle_event_clock()")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Stop numbering; readers of the feed begin anew after the next upgrade."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("DROP FUNCTION outrider_settle_event_clock()")
    op.execute("ALTER TABLE message_events DROP COLUMN position")
    op.execute("DROP TABLE event_clocks")
    op.execute("RESET ROLE")
