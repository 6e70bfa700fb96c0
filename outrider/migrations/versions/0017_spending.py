"""Count money: prices, budgets of tenants and campaigns, what each message was charged, and changes made by hand in SQL."""

from __future__ import annotations

from alembic import op

from outrider.migrations.rights import ALL, READERS, guard, statements

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE prices (                  -- what one part of a message costs, from a moment on; tenant NIL: the installation's
  tenant_id uuid NOT NULL, channel text NOT NULL, country text NOT NULL DEFAULT '', valid_from timestamptz NOT NULL DEFAULT now(),
  micros bigint NOT NULL, created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, channel, country, valid_from),
  CONSTRAINT prices_micros_check CHECK (micros >= 0),
  CONSTRAINT prices_country_check CHECK (country ~ '^([A-Z]{2})?$')
);
CREATE TABLE budget_accounts (         -- what was spent in this day and month of the tenant's zone; a campaign's limits; the row is the lock
  tenant_id uuid NOT NULL, scope text NOT NULL, scope_id uuid NOT NULL, daily_cents bigint, monthly_cents bigint,
  day_on date NOT NULL, day_ends_at timestamptz NOT NULL, day_spent_micros bigint NOT NULL DEFAULT 0,
  month_on date NOT NULL, month_ends_at timestamptz NOT NULL, month_spent_micros bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, scope, scope_id),
  CONSTRAINT budget_accounts_scope_check CHECK (scope IN ('tenant', 'campaign')),
  CONSTRAINT budget_accounts_cents_check CHECK (daily_cents >= 0 AND monthly_cents >= 0),
  CONSTRAINT budget_accounts_spent_check CHECK (day_spent_micros >= 0 AND month_spent_micros >= 0)
) WITH (fillfactor = 10);
CREATE TABLE charges (                 -- what an attempt was charged: reserved at its claim, given back when it was not sent
  tenant_id uuid NOT NULL, message_id uuid NOT NULL, token bigint NOT NULL, campaign_id uuid, micros bigint NOT NULL,
  segments smallint NOT NULL, day_on date NOT NULL, month_on date NOT NULL, is_settled boolean NOT NULL DEFAULT false,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, message_id, token)
) WITH (fillfactor = 70);
CREATE INDEX charges_at ON charges (at);
CREATE TABLE budget_events (           -- a budget was used up to a share: once per period
  tenant_id uuid NOT NULL, scope text NOT NULL, scope_id uuid NOT NULL, period text NOT NULL, period_on date NOT NULL,
  percent smallint NOT NULL, spent_cents bigint NOT NULL, limit_cents bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (tenant_id, scope, scope_id, period, period_on, percent)
);
CREATE INDEX budget_events_at ON budget_events (tenant_id, at);
CREATE TABLE budget_hand_changes (     -- UPDATEs by people with psql, until a worker has written them into the audit log
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL, what text NOT NULL, before_cents bigint, after_cents bigint,
  by_login text NOT NULL DEFAULT session_user, at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""

_VIEW = """
CREATE VIEW budgets WITH (security_invoker = true) AS
SELECT t.id AS tenant_id,
       CASE WHEN a.day_ends_at > now() THEN ceil(a.day_spent_micros / 10000.0)::bigint ELSE 0 END AS daily_spent_cents,
       CASE WHEN a.month_ends_at > now() THEN ceil(a.month_spent_micros / 10000.0)::bigint ELSE 0 END AS monthly_spent_cents,
       t.daily_budget_cents, t.monthly_budget_cents, a.day_on, a.month_on
FROM tenants t LEFT JOIN budget_accounts a ON a.tenant_id = t.id AND a.scope = 'tenant' AND a.scope_id = t.id
"""

_SPENT_BY_HAND = """
CREATE RULE spent_by_hand AS ON UPDATE TO budgets DO INSTEAD (
  INSERT INTO budget_hand_changes (tenant_id, what, before_cents, after_cents)
  SELECT OLD.tenant_id, 'daily_spent_cents', OLD.daily_spent_cents, NEW.daily_spent_cents
  WHERE NEW.daily_spent_cents IS DISTINCT FROM OLD.daily_spent_cents;
  INSERT INTO budget_hand_changes (tenant_id, what, before_cents, after_cents)
  SELECT OLD.tenant_id, 'monthly_spent_cents', OLD.monthly_spent_cents, NEW.monthly_spent_cents
  WHERE NEW.monthly_spent_cents IS DISTINCT FROM OLD.monthly_spent_cents;
  UPDATE budget_accounts a SET
    day_spent_micros = CASE WHEN NEW.daily_spent_cents IS DISTINCT FROM OLD.daily_spent_cents
                            THEN NEW.daily_spent_cents * 10000 ELSE a.day_spent_micros END,
    month_spent_micros = CASE WHEN NEW.monthly_spent_cents IS DISTINCT FROM OLD.monthly_spent_cents
                              THEN NEW.monthly_spent_cents * 10000 ELSE a.month_spent_micros END
  WHERE a.tenant_id = OLD.tenant_id AND a.scope = 'tenant' AND a.scope_id = OLD.tenant_id
)
"""

# a trigger and no rule: a table with rules takes no INSERT … ON CONFLICT; it fires for nobody but people with psql
_LIMITS_BY_HAND = (
    """
CREATE FUNCTION outrider_budget_by_hand() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
  INSERT INTO public.budget_hand_changes (tenant_id, what, before_cents, after_cents)
  SELECT OLD.id, c.what, c.before_cents, c.after_cents
  FROM (VALUES ('daily_budget_cents', OLD.daily_budget_cents, NEW.daily_budget_cents),
               ('monthly_budget_cents', OLD.monthly_budget_cents, NEW.monthly_budget_cents)) AS c(what, before_cents, after_cents)
  WHERE c.before_cents IS DISTINCT FROM c.after_cents;
  RETURN NULL;
END $$
""",
    "REVOKE ALL ON FUNCTION outrider_budget_by_hand() FROM PUBLIC",
    """
CREATE TRIGGER budget_by_hand AFTER UPDATE OF daily_budget_cents, monthly_budget_cents ON tenants
FOR EACH ROW WHEN (current_user = 'outrider_ops') EXECUTE FUNCTION outrider_budget_by_hand()
""",
)
_ACCOUNTS = """
INSERT INTO budget_accounts (tenant_id, scope, scope_id, day_on, day_ends_at, month_on, month_ends_at)
SELECT id, 'tenant', id, current_date, now(), date_trunc('month', current_date)::date, now() FROM tenants
"""


def upgrade() -> None:
    """Make the tables, the view of the runbooks, and the rules by which its UPDATEs work."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE tenants ADD COLUMN daily_budget_cents bigint, ADD COLUMN monthly_budget_cents bigint")
    op.execute(
        "ALTER TABLE tenants ADD CONSTRAINT tenants_budget_check "
        "CHECK (daily_budget_cents >= 0 AND monthly_budget_cents >= 0)"
    )
    for statement in statements(_TABLES):
        op.execute(statement)
    guard("prices", ALL, shows_nil=True)
    for table in ("budget_accounts", "budget_events"):
        guard(table, ALL)
    guard("charges", "SELECT")
    guard("budget_hand_changes", "SELECT")
    op.execute(_ACCOUNTS)
    op.execute(_VIEW)
    op.execute(f"GRANT SELECT ON budgets TO outrider_app, outrider_engine, {READERS}")
    op.execute(_SPENT_BY_HAND)
    op.execute("GRANT UPDATE (daily_spent_cents, monthly_spent_cents) ON budgets TO outrider_ops")
    for statement in _LIMITS_BY_HAND:
        op.execute(statement)
    op.execute("GRANT UPDATE (daily_budget_cents, monthly_budget_cents) ON tenants TO outrider_ops")
    op.execute("CREATE POLICY ops_sets_budgets ON tenants FOR UPDATE TO outrider_ops USING (true) WITH CHECK (true)")
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Take them away: nothing costs anything any more."""
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("DROP POLICY ops_sets_budgets ON tenants")
    op.execute("REVOKE UPDATE (daily_budget_cents, monthly_budget_cents) ON tenants FROM outrider_ops")
    op.execute("DROP TRIGGER budget_by_hand ON tenants")
    op.execute("DROP FUNCTION outrider_budget_by_hand()")
    op.execute("DROP VIEW budgets")
    op.execute("DROP TABLE budget_hand_changes, budget_events, charges, budget_accounts, prices")
    op.execute("ALTER TABLE tenants DROP COLUMN daily_budget_cents, DROP COLUMN monthly_budget_cents")
    op.execute("RESET ROLE")
