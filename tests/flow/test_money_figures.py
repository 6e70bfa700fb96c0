"""Money in the metrics: what is spent of which limit, and what gates hold."""

from __future__ import annotations

from collections.abc import Callable

from outrider.base.ids import DEFAULT_TENANT
from outrider.contracts.actor import Actor
from outrider.domain.limits import budgets
from outrider.interfaces.api import money_figures
from tests.kit.api import api_of

_HELD = (
    "INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state, reason) "
    "SELECT $1, outrider_id(), $2, now() + interval '1 hour', 5, 5, r FROM unnest($3::text[]) r"
)


async def test_budgets_and_what_is_held_for_money_are_metrics(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated")) as own:
        async with own.engine() as uow:
            await budgets.set_budget(
                uow, Actor("user", "t"), "tenant", DEFAULT_TENANT, daily_cents=400, monthly_cents=None
            )
            await uow.raw.execute(
                "UPDATE budget_accounts SET day_spent_micros = 1000000, day_ends_at = now() + interval '1 hour', "
                "month_spent_micros = 3000000, month_ends_at = now() + interval '1 hour' WHERE tenant_id = $1",
                DEFAULT_TENANT,
            )
            lane = await uow.raw.fetchval(
                "INSERT INTO lanes (tenant_id, channel, sender_id, message_class) "
                "VALUES ($1, 'sms', $1, 'bulk') RETURNING id",
                DEFAULT_TENANT,
            )
            reasons = ["budget: 1.00 of 1.00 are spent", "budget: 1.00 of 1.00 are spent", "quiet_hours: it is quiet"]
            await uow.raw.execute(_HELD, DEFAULT_TENANT, lane, reasons)
        text = (await own.caller().get("/metrics")).text
    who = f'app="outrider",period="{{}}",tenant="{DEFAULT_TENANT}"'
    assert f"outrider_budget_spent_cents{{{who.format('day')}}} 100.0" in text
    assert f"outrider_budget_limit_cents{{{who.format('day')}}} 400.0" in text
    assert f"outrider_budget_used_percent{{{who.format('day')}}} 25.0" in text
    assert f"outrider_budget_spent_cents{{{who.format('month')}}} 300.0" in text
    assert f"outrider_budget_limit_cents{{{who.format('month')}}}" not in text, "no limit is no figure"
    assert 'outrider_held_messages{app="outrider",channel="sms",gate="budget"} 2.0' in text
    assert 'outrider_held_messages{app="outrider",channel="sms",gate="quiet_hours"} 1.0' in text


async def test_no_more_tenants_are_shown_than_a_scrape_can_bear(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated")) as own:
        async with own.engine() as uow:
            await uow.raw.execute(
                "WITH made AS (INSERT INTO tenants (name, daily_budget_cents) SELECT 'tenant ' || n, 100 + n "
                "FROM generate_series(1, 300) n RETURNING id) "
                "INSERT INTO budget_accounts (tenant_id, scope, scope_id, day_on, day_ends_at, day_spent_micros, "
                "month_on, month_ends_at) SELECT id, 'tenant', id, current_date, now() + interval '1 hour', 500000, "
                "current_date, now() + interval '1 hour' FROM made"
            )
        text = (await own.caller().get("/metrics")).text
    shown = [line for line in text.splitlines() if line.startswith("outrider_budget_used_percent{")]
    assert len(shown) == money_figures.MOST_TENANTS
    assert max(float(line.rpartition(" ")[2]) for line in shown) == 49.5, "those that used the most"


async def test_who_opts_out_is_a_share_of_what_went(new_database: Callable[..., str]) -> None:
    async with api_of(new_database("migrated")) as own:
        async with own.engine() as uow:
            left = (
                "INSERT INTO suppressions (tenant_id, channel, address_hash, address, reason, source, created_by, "
                "created_at) SELECT $1, $2, sha256(convert_to(n || $2, 'UTF8')), n || $2, $3, 'test', 'test', "
                "now() - $4::int * interval '1 hour' FROM generate_series(1, $5::int) n"
            )
            for channel, reason, hours, count in (
                ("sms", "stop", 1, 3), ("email", "unsubscribe", 1, 2), ("fax", "unsubscribe", 25, 5),
                ("push", "complaint", 1, 4),
            ):  # fmt: skip
                await uow.raw.execute(left, DEFAULT_TENANT, channel, reason, hours, count)
            sent = (
                "WITH lane AS (INSERT INTO lanes (tenant_id, channel, sender_id, message_class) "
                "VALUES ($1, $2, $1, $3) RETURNING id) "
                "INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, code, n) "
                "SELECT $1, id, date_trunc('hour', now()), 'sent', '', $4 FROM lane"
            )
            await uow.raw.execute(sent, DEFAULT_TENANT, "sms", "bulk", 60)
            await uow.raw.execute(sent, DEFAULT_TENANT, "email", "transactional", 50)
            reported = (
                "INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, code, n) "
                "SELECT $1, id, date_trunc('hour', now()), state, '', n FROM lanes, "
                "unnest('{sent,delivered,bounced}'::text[], '{-45,43,2}'::int[]) t(state, n) "
                "WHERE tenant_id = $1 AND channel = 'sms'"
            )
            await uow.raw.execute(reported, DEFAULT_TENANT)
        text = (await own.caller().get("/metrics")).text
    who = f'app="outrider",channel="{{}}",tenant="{DEFAULT_TENANT}"'
    assert f"outrider_opt_outs{{{who.format('sms')}}} 3.0" in text
    assert f"outrider_opt_out_ratio{{{who.format('sms')}}} 0.05" in text, "of all that went, reported or not"
    assert f"outrider_opt_outs{{{who.format('email')}}} 2.0" in text
    assert f"outrider_opt_out_ratio{{{who.format('email')}}}" not in text, "no bulk message went: no share"
    assert "fax" not in text, "more than a day ago"
    assert "push" not in text, "a complaint is none"
