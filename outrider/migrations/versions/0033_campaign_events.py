"""Keep what happens to campaigns where the feed of events reads it: with positions, as events of messages have them."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import guard, statements

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

EVENTS = """
CREATE TABLE campaign_events (         -- append-only: what happened to a campaign; `position` as of message_events
  tenant_id uuid NOT NULL, campaign_id uuid NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(), kind text NOT NULL, data jsonb NOT NULL,
  position bigint NOT NULL
);
CREATE INDEX campaign_events_position ON campaign_events (tenant_id, position);
CREATE INDEX campaign_events_campaign ON campaign_events (tenant_id, campaign_id, at);
CREATE INDEX campaign_events_at ON campaign_events (at);
"""
_NEWEST_OF_CAMPAIGNS = """
  UNION ALL
  SELECT newest.position FROM public.tenants t CROSS JOIN LATERAL (
    SELECT e.position FROM public.campaign_events e WHERE e.tenant_id = t.id ORDER BY e.position DESC LIMIT 1
  ) newest"""
_SETTLE = """
CREATE OR REPLACE FUNCTION outrider_settle_event_clock() RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
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
  SELECT coalesce(max(known.position), 0) INTO last FROM (
  SELECT newest.position FROM public.tenants t CROSS JOIN LATERAL (
    SELECT e.position FROM public.message_events e WHERE e.tenant_id = t.id ORDER BY e.position DESC LIMIT 1
  ) newest/* campaigns */
  ) known;
  offset_now := last + 1 - txid_current();
  EXECUTE format('ALTER TABLE public.message_events ALTER COLUMN position SET DEFAULT txid_current() + %s', offset_now);
  INSERT INTO public.event_clocks (ordinal, system_identifier, base, begins_after)
  SELECT count(*), here, offset_now, last FROM public.event_clocks;
  RETURN true;
END $$
"""


def upgrade() -> None:
    """Make the table; a copy of this database goes on above the positions of both kinds of events."""
    op.execute("SET LOCAL ROLE outrider_owner")
    for statement in statements(EVENTS):
        op.execute(statement)
    guard("campaign_events", "SELECT, INSERT")
    op.execute(_SETTLE.replace("/* campaigns */", _NEWEST_OF_CAMPAIGNS))
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Forget what happened to campaigns; places in the feed stay what they are."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute(_SETTLE.replace("/* campaigns */", ""))
    op.execute("DROP TABLE campaign_events")
    op.execute("RESET ROLE")
