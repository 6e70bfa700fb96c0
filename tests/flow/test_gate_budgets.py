"""Budgets on a real database: never over by one cent, held with the reason, released by raise, reset or a new day."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from outrider.base.errors import Refused, Unavailable
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.contracts.callbacks import Bill
from outrider.contracts.gate import Lane
from outrider.contracts.outcome import Accepted, Uncertain
from outrider.data.db import Role
from outrider.domain.limits import accounts, budgets, charges, prices
from outrider.domain.messages import holds, uncertain
from outrider.domain.tenants import tenants
from outrider.engine.dispatch.batch import Money
from outrider.engine.dispatch.claim import Claimer
from outrider.engine.dispatch.record import Row, row_for, write
from outrider.engine.maintenance import money
from tests.kit.campaigns import fanned_out, launched
from tests.kit.dispatch import BOUND_S, GATES, Desk, Post, until
from tests.kit.noon import at_noon, next_midnight, noon_zone

TESTER = Actor("user", "tester")
CENT = accounts.MICROS_PER_CENT
_WAITING = (
    "SELECT count(*) FROM pg_locks WHERE NOT granted "
    "AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
)
_A_DAY_LATER = (
    "UPDATE budget_accounts SET day_on = day_on - 1, day_ends_at = now() - interval '1 minute' WHERE tenant_id = $1"
)


@pytest.fixture
async def desk(post: Post) -> Desk:
    """A tenant whose day does not end while a test runs."""
    return await at_noon(await post.desk())


async def price(desk: Desk, micros: int, country: str = "", *, tenant_id: UUID | None = None) -> None:
    async with desk.post.runtime.db.uow(Role.ENGINE, tenant_id or desk.tenant_id) as uow:
        await prices.add(uow, TESTER, "email", country, micros)


async def limit(
    desk: Desk, daily: int | None, monthly: int | None = None, *, campaign_id: UUID | None = None
) -> budgets.Budget:
    scope, scope_id = ("campaign", campaign_id) if campaign_id else ("tenant", desk.tenant_id)
    async with desk.engine() as uow:
        done = await budgets.set_budget(
            uow, TESTER, scope, scope_id, daily_cents=daily, monthly_cents=monthly, reason="test"
        )
        await holds.release(uow, budgets.GATE, done.scope_id if campaign_id else None)
    await money.release_freed(desk.post.runtime)  # what the change itself wakes is awake
    return done


async def spent(desk: Desk) -> tuple[int, int]:
    """Micros of the tenant's day, and the sum of what is charged."""
    account = await desk.post.value(
        "SELECT day_spent_micros FROM budget_accounts WHERE tenant_id = $1 AND scope = 'tenant'", desk.tenant_id
    )
    charged = await desk.post.value(
        "SELECT coalesce(sum(micros), 0)::bigint FROM charges WHERE tenant_id = $1", desk.tenant_id
    )
    return account, charged


async def promote(desk: Desk) -> None:
    await desk.post.execute(
        "UPDATE queue SET state = 0, reason = NULL WHERE tenant_id = $1 AND state IN (4, 5) AND due_at <= now()",
        desk.tenant_id,
    )


async def record(desk: Desk, token: int, ids: list[UUID], kind: str, state: str = "") -> None:
    async with desk.post.engine.transaction() as raw:
        await write(raw, desk.tenant_id, [Row(kind, message_id, token, state) for message_id in ids])


async def test_what_costs_nothing_is_not_counted(desk: Desk) -> None:
    await desk.admit(3)
    claim = await desk.claim()
    assert claim.batch is not None
    assert claim.batch.money is None
    assert await desk.post.value("SELECT count(*) FROM charges WHERE tenant_id = $1", desk.tenant_id) == 0


async def test_the_budget_is_spent_to_the_last_message_that_fits_and_the_rest_is_held_with_the_reason(
    desk: Desk,
) -> None:
    await price(desk, 3 * CENT)
    await limit(desk, 10)
    ids = await desk.admit(5)
    claim = await desk.claim()
    assert claim.batch is not None
    assert list(claim.batch.messages) == ids[:3]
    assert claim.settled_count == 2
    assert await spent(desk) == (9 * CENT, 9 * CENT)
    shown = await desk.message(ids[3])
    assert shown["state"] == "held"
    assert shown["waiting_for"] == ("budget: the daily budget of the tenant: 0.09 of 0.10 are spent, this costs 0.0300")
    lives_in = await desk.post.value("SELECT timezone FROM tenants WHERE id = $1", desk.tenant_id)
    assert shown["next_at"] == next_midnight(lives_in)


async def test_a_cheaper_message_behind_one_that_does_not_fit_goes(desk: Desk) -> None:
    async with desk.post.engine.transaction() as raw:
        payer = charges.Payer(desk.tenant_id, None, noon_zone())
        await limit(desk, 10)
        costs = [charges.Cost(UUID(int=n), cents * CENT, 1) for n, cents in enumerate((7, 5, 3), 1)]
        short, _ = await charges.reserve(raw, payer, 1, costs)
    assert set(short) == {UUID(int=2)}
    assert await spent(desk) == (10 * CENT, 10 * CENT)


async def test_four_claimers_at_once_never_exceed_a_budget_by_a_micro(desk: Desk) -> None:
    await price(desk, 12_345)
    await limit(desk, 321, 777)
    await desk.admit(300)
    second = await desk.sender("second")
    await desk.admit(300, sender_id=second)
    lanes = [await desk.lane(), await desk.lane(sender_id=second)]
    taken: list[int] = []

    async def work(lane: Lane) -> None:
        claimer = Claimer(desk.post.engine, GATES, lease_s=60)
        for _ in range(8):
            claim = await desk.claim(40, lane=lane, claimer=claimer)
            taken.append(len(claim.batch.messages) if claim.batch else 0)

    await asyncio.gather(*(work(lanes[n % 2]) for n in range(4)))
    assert sum(taken) == 321 * CENT // 12_345
    account, charged = await spent(desk)
    assert account == charged == sum(taken) * 12_345 <= 321 * CENT


@pytest.mark.parametrize(("kind", "state"), [("hand_back", ""), ("defer", ""), ("finish", "failed")])
async def test_what_was_not_sent_gives_its_money_back(desk: Desk, kind: str, state: str) -> None:
    await price(desk, CENT)
    await limit(desk, 5)
    ids = await desk.admit(5)
    claim = await desk.claim()
    assert claim.batch is not None
    await record(desk, claim.batch.token, ids[:2], kind, state)
    assert await spent(desk) == (3 * CENT, 3 * CENT)
    await record(desk, claim.batch.token, ids[:2], kind, state)
    assert await spent(desk) == (3 * CENT, 3 * CENT), "an outcome that is fenced off gives nothing back"


async def test_money_that_comes_back_frees_what_waits_for_it(desk: Desk) -> None:
    await price(desk, CENT)
    await limit(desk, 2)
    ids = await desk.admit(4)
    claim = await desk.claim()
    assert claim.batch is not None
    await record(desk, claim.batch.token, ids[:1], "finish", "failed")
    assert await money.release_freed(desk.post.runtime) == 2
    assert await money.release_freed(desk.post.runtime) == 0, "told once"
    await promote(desk)
    again = await desk.claim()
    assert again.batch is not None
    assert len(again.batch.messages) == 1
    assert await spent(desk) == (2 * CENT, 2 * CENT)


async def test_money_for_many_that_comes_back_at_once_frees_more_until_somebody_lacks_it_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(money, "_SOME", 1)
    await price(desk, CENT)
    await limit(desk, 3)
    ids = await desk.admit(7)
    claim = await desk.claim()
    assert claim.batch is not None
    await record(desk, claim.batch.token, ids[:2], "finish", "failed")
    for sent in (1, 1, 0):
        assert await money.release_freed(desk.post.runtime) == 1
        await promote(desk)
        again = await desk.claim()
        assert len(again.batch.messages if again.batch else ()) == sent
    assert await money.release_freed(desk.post.runtime) == 0, "somebody lacks it again"
    assert await spent(desk) == (3 * CENT, 3 * CENT)


async def test_money_that_came_back_is_not_forgotten_by_who_dies_while_asking_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await price(desk, CENT)
    await limit(desk, 2)
    ids = await desk.admit(4)
    claim = await desk.claim()
    assert claim.batch is not None
    await record(desk, claim.batch.token, ids[:1], "finish", "failed")

    async def dying(*_arguments: Any) -> int:
        raise Unavailable("database_away", "the database is not reachable; try again")

    with monkeypatch.context() as patch:
        patch.setattr(holds, "release_some", dying)
        with pytest.raises(Unavailable):
            await money.release_freed(desk.post.runtime)
    assert await money.release_freed(desk.post.runtime) == 2


async def test_a_claim_that_began_before_a_raise_leaves_nothing_behind(desk: Desk) -> None:
    await price(desk, CENT)
    await limit(desk, 2)
    ids = await desk.admit(4)
    async with desk.engine() as uow:
        await budgets.set_budget(uow, TESTER, "tenant", desk.tenant_id, daily_cents=9, monthly_cents=None)
        await holds.release(uow, budgets.GATE)
        late = asyncio.ensure_future(desk.claim())

        async def waits() -> bool:
            return bool(await desk.post.value(_WAITING))

        await until(waits)
    async with asyncio.timeout(BOUND_S):
        claim = await late
    assert claim.batch is not None
    await money.release_freed(desk.post.runtime)
    await promote(desk)
    more = await desk.claim()
    assert sorted({*claim.batch.messages, *(more.batch.messages if more.batch else ())}) == sorted(ids)


async def test_what_waits_for_money_is_asked_about_when_everybodys_price_becomes_less(desk: Desk) -> None:
    await price(desk, 5 * CENT, tenant_id=NIL)
    try:
        await limit(desk, 4)
        await desk.admit(1)
        assert (await desk.claim()).batch is None
        await price(desk, 4 * CENT, tenant_id=NIL)
        await money.release_freed(desk.post.runtime)
        await promote(desk)
        assert (await desk.claim()).batch is not None
    finally:
        async with desk.post.runtime.db.uow(Role.ENGINE, NIL) as uow:
            await prices.remove(uow, TESTER, "email", "")


async def test_what_waits_for_money_is_asked_about_when_an_email_costs_less(desk: Desk) -> None:
    async def costs(micros: int) -> int:
        given = {"email_price_micros": micros}
        async with desk.engine() as uow:
            await tenants.change(uow, TESTER, desk.tenant_id, settings=given, fields=tenants.known_fields(GATES))
            return await holds.tenant_changed(uow, GATES, given, is_zone=False)

    assert await costs(5 * CENT) == 0
    await limit(desk, 4)
    await desk.admit(1)
    assert (await desk.claim()).batch is None
    assert await costs(4 * CENT) == 1
    await promote(desk)
    assert (await desk.claim()).batch is not None


@pytest.mark.parametrize(("kind", "state"), [("sent", "sent"), ("try_again", ""), ("finish", "uncertain")])
async def test_what_was_sent_or_may_have_been_stays_charged(desk: Desk, kind: str, state: str) -> None:
    await price(desk, CENT)
    ids = await desk.admit(2)
    claim = await desk.claim()
    assert claim.batch is not None
    await record(desk, claim.batch.token, ids, kind, state)
    assert await spent(desk) == (2 * CENT, 2 * CENT)
    if state == "uncertain":
        async with desk.engine() as uow:
            await uncertain.mark(uow, TESTER, desk.tenant_id, ids[:1], state="failed", reason="asked the provider")
        assert await spent(desk) == (CENT, CENT)


async def test_an_attempt_that_may_have_been_made_stays_charged_while_it_is_repeated_and_its_repetition_as_well(
    desk: Desk,
) -> None:
    await price(desk, CENT)
    (message_id,) = await desk.admit(1)
    claim = await desk.claim()
    assert claim.batch is not None
    outcome, settings = Uncertain("answer_lost", "cut"), desk.post.runtime.settings
    row = row_for(message_id, claim.batch.token, outcome, attempt=1, may_repeat=True, settings=settings)
    async with desk.post.engine.transaction() as raw:
        assert await write(raw, desk.tenant_id, [row]) == {message_id}
    assert await spent(desk) == (CENT, CENT), "nobody knows that the provider does not bill it"
    await desk.post.execute("UPDATE queue SET due_at = now() WHERE tenant_id = $1", desk.tenant_id)
    await promote(desk)
    assert (await desk.claim()).batch is not None
    assert await spent(desk) == (2 * CENT, 2 * CENT)


async def test_a_raise_and_a_reset_release_what_is_held_and_are_audited(desk: Desk) -> None:
    await price(desk, CENT)
    await limit(desk, 2)
    ids = await desk.admit(6)
    first = await desk.claim()
    assert first.batch is not None
    assert await desk.states(ids[2:]) == ["held"] * 4
    await limit(desk, 4)
    await promote(desk)
    raised = await desk.claim()
    assert raised.batch is not None
    assert list(raised.batch.messages) == ids[2:4]
    async with desk.engine() as uow:
        done = await budgets.reset(uow, TESTER, "tenant", desk.tenant_id, "day", reason="agreed")
        assert await holds.release(uow, budgets.GATE) == 2
    assert (done.daily_spent_cents, done.monthly_spent_cents) == (0, 4)
    await promote(desk)
    last = await desk.claim()
    assert last.batch is not None
    assert list(last.batch.messages) == ids[4:]
    rows = await desk.post.fetch(
        "SELECT action, reason FROM audit_log WHERE tenant_id = $1 AND action LIKE 'budget.%' ORDER BY seq",
        desk.tenant_id,
    )
    assert [tuple(row) for row in rows] == [
        ("budget.set", "test"), ("budget.set", "test"), ("budget.reset", "agreed"),
    ]  # fmt: skip


async def test_a_campaigns_budget_binds_beside_the_tenants(desk: Desk) -> None:
    await price(desk, CENT)
    campaign = await launched(desk, 6)
    await fanned_out(desk.post)
    await limit(desk, 3, campaign_id=campaign.id)
    claim = await desk.claim(lane=await campaign.lane())
    assert claim.batch is not None
    assert len(claim.batch.messages) == 3
    held = (await campaign.messages())[3:]
    assert "the daily budget of the campaign" in (await desk.message(held[0]))["waiting_for"]
    await limit(desk, 4)
    await desk.admit(4)
    other = await desk.claim()
    assert other.batch is not None
    assert len(other.batch.messages) == 1, "the tenant's budget counts the campaign's spending"


async def test_a_new_day_begins_with_nothing_spent_and_the_month_goes_on(desk: Desk) -> None:
    await price(desk, CENT)
    await limit(desk, 2, 3)
    await desk.admit(2)
    assert (await desk.claim()).batch is not None
    await desk.post.execute(
        _A_DAY_LATER,
        desk.tenant_id,
    )
    ids = await desk.admit(2)
    claim = await desk.claim()
    assert claim.batch is not None
    assert list(claim.batch.messages) == ids[:1]
    assert "the monthly budget of the tenant" in (await desk.message(ids[1]))["waiting_for"]


async def test_money_of_a_day_that_is_over_returns_to_that_day_only(desk: Desk) -> None:
    await price(desk, CENT)
    ids = await desk.admit(2)
    claim = await desk.claim()
    assert claim.batch is not None
    await desk.post.execute(
        _A_DAY_LATER,
        desk.tenant_id,
    )
    await desk.post.execute("UPDATE charges SET day_on = day_on - 1 WHERE tenant_id = $1", desk.tenant_id)
    await desk.admit(1)
    assert (await desk.claim()).batch is not None
    await record(desk, claim.batch.token, ids, "hand_back")
    row = (await desk.post.fetch(
        "SELECT day_spent_micros, month_spent_micros FROM budget_accounts WHERE tenant_id = $1", desk.tenant_id
    ))[0]  # fmt: skip
    assert tuple(row) == (CENT, CENT)


@pytest.mark.parametrize(
    ("zone", "on", "ends"),
    [("Australia/Sydney", date(2026, 10, 4), datetime(2026, 10, 4, 13, tzinfo=UTC)),
     ("America/New_York", date(2026, 11, 1), datetime(2026, 11, 2, 5, tzinfo=UTC)),
     ("Africa/Cairo", date(2027, 4, 29), datetime(2027, 4, 29, 22, tzinfo=UTC)),
     ("Nowhere/Atlantis", date(2026, 12, 31), datetime(2027, 1, 1, tzinfo=UTC))],
)  # fmt: skip
def test_a_day_ends_at_the_local_midnight_also_when_clocks_are_set(zone: str, on: date, ends: datetime) -> None:
    row = {
        "now": ends - timedelta(hours=1), "day_ends_at": ends - timedelta(days=9), "day_on": on, "daily_cents": None,
    }  # fmt: skip
    assert accounts._pot("day", row, on, zone).ends_at == ends


async def test_shares_of_a_budget_are_noted_once_per_period(desk: Desk) -> None:
    await price(desk, CENT)
    await limit(desk, 10, 100)
    for _ in range(12):
        await desk.admit(1)
        await desk.claim()
    async with desk.engine() as uow:
        noted = await budgets.events(uow)
    assert [(each.period, each.percent) for each in reversed(noted)] == [
        ("day", 50), ("day", 80), ("day", 90), ("day", 100),
    ]  # fmt: skip


async def test_without_a_price_nothing_goes_where_a_budget_is_to_be_kept(desk: Desk) -> None:
    await price(desk, CENT, "DE")
    (free,) = await desk.admit(1)
    claim = await desk.claim()
    assert claim.batch is not None, "without a limit nobody has to know the price"
    await limit(desk, 10)
    (held,) = await desk.admit(1)
    assert (await desk.claim()).batch is None
    assert (await desk.message(held))["waiting_for"] == "budget: no price is known for email to this address"
    assert free in claim.batch.messages


async def test_a_tenants_price_goes_before_the_installations_and_the_newest_counts(desk: Desk) -> None:
    await price(desk, 7 * CENT, tenant_id=NIL)
    try:
        async with desk.post.engine.transaction() as raw:
            assert (await prices.now(raw, desk.tenant_id, "email", {}))[""] == 7 * CENT
        await price(desk, 2 * CENT)
        await price(desk, 3 * CENT)
        async with desk.engine() as uow:
            await prices.add(uow, TESTER, "email", "", 9 * CENT, valid_from=datetime.now(UTC) + timedelta(days=1))
        async with desk.post.engine.transaction() as raw:
            assert (await prices.now(raw, desk.tenant_id, "email", {}))[""] == 3 * CENT
    finally:
        await desk.post.execute("DELETE FROM prices WHERE tenant_id = $1", NIL)


async def test_the_providers_price_takes_the_place_of_the_reservation(desk: Desk) -> None:
    await price(desk, 2 * CENT)
    ids = await desk.admit(2)
    claim = await desk.claim()
    assert claim.batch is not None
    async with desk.post.engine.transaction() as raw:
        bills = {ids[0]: Bill(Decimal("0.05"), "EUR"), ids[1]: Bill(Decimal(0), "EUR"), NIL: Bill(Decimal(1), "EUR")}
        assert await charges.settle(raw, desk.tenant_id, bills) == set(ids)
        assert await charges.settle(raw, desk.tenant_id, bills) == set(ids), "told again it changes nothing"
    assert await spent(desk) == (5 * CENT, 5 * CENT)


async def test_each_attempt_gets_its_own_bill_however_late_and_in_whatever_order_they_come(desk: Desk) -> None:
    await price(desk, 2 * CENT)
    (sent,) = await desk.admit(1)
    tokens = []
    for _ in range(3):  # two whose answers were lost, and one that was accepted
        await desk.post.execute(
            "UPDATE queue SET state = 0, lease_until = NULL, token = NULL, due_at = now() WHERE message_id = $1", sent
        )
        claim = await desk.claim()
        assert claim.batch is not None
        tokens.append(claim.batch.token)
    async with desk.post.engine.transaction() as raw:
        row = row_for(
            sent, tokens[2], Accepted("third"), attempt=3, may_repeat=True, settings=desk.post.runtime.settings
        )
        assert await write(raw, desk.tenant_id, [row]) == {sent}
    for name, amount in (("third", "0.05"), ("first", "0.03"), ("third", "0.05"), ("second", "0.04")):
        async with desk.post.engine.transaction() as raw:
            assert await charges.settle(raw, desk.tenant_id, {sent: Bill(Decimal(amount), "EUR", name)}) == {sent}
    rows = await desk.post.fetch("SELECT token, micros FROM charges WHERE message_id = $1", sent)
    assert {row["token"]: row["micros"] for row in rows} == dict(
        zip(tokens, (3 * CENT, 4 * CENT, 5 * CENT), strict=True)
    )
    assert await spent(desk) == (12 * CENT, 12 * CENT)


async def test_a_price_in_another_currency_leaves_what_was_reserved(desk: Desk) -> None:
    await price(desk, 2 * CENT)
    ids = await desk.admit(1)
    await desk.claim()
    async with desk.post.engine.transaction() as raw:
        assert await charges.settle(raw, desk.tenant_id, {ids[0]: Bill(Decimal("0.05"), "JPY")}) == set()
    assert await spent(desk) == (2 * CENT, 2 * CENT)
    assert await desk.post.value("SELECT is_settled FROM charges WHERE tenant_id = $1", desk.tenant_id) is True


async def test_a_price_counts_in_the_day_and_month_of_its_reservation(desk: Desk) -> None:
    await price(desk, 2 * CENT)
    ids = await desk.admit(1)
    await desk.claim()
    await desk.post.execute("UPDATE charges SET day_on = day_on - 1 WHERE tenant_id = $1", desk.tenant_id)
    async with desk.post.engine.transaction() as raw:
        await charges.settle(raw, desk.tenant_id, {ids[0]: Bill(Decimal("0.05"), "EUR")})
    assert await spent(desk) == (2 * CENT, 5 * CENT), "yesterday's money is not today's"


async def claimed(desk: Desk, cents: int, count: int) -> tuple[list[UUID], int, Money]:
    """Messages at a cent each, claimed with so much money: their ids, the token, and what was reserved."""
    await price(desk, CENT)
    await limit(desk, cents)
    ids = await desk.admit(count)
    claim = await desk.claim()
    assert claim.batch is not None
    assert claim.batch.money is not None
    return ids, claim.batch.token, claim.batch.money


async def test_further_parts_are_paid_before_the_send_or_the_message_stays(desk: Desk) -> None:
    ids, token, held = await claimed(desk, 6, 4)
    changes = {ids[0]: (held.costs[ids[0]], 4), ids[1]: (held.costs[ids[1]], 3), ids[2]: (held.costs[ids[2]], 1)}
    async with desk.post.engine.transaction() as raw:
        refused = await charges.correct(raw, held.payer, token, held.dates, changes)
    assert refused == {ids[0]}, "two more cents are there: for the two further parts of the second"
    assert await spent(desk) == (6 * CENT, 6 * CENT)


async def test_a_charge_that_was_given_back_or_billed_is_not_corrected(desk: Desk) -> None:
    ids, token, held = await claimed(desk, 9, 3)
    await record(desk, token, ids[:1], "hand_back")
    async with desk.post.engine.transaction() as raw:
        assert await charges.settle(raw, desk.tenant_id, {ids[1]: Bill(Decimal("0.03"), "EUR")}) == {ids[1]}
        changes = {each: (held.costs[each], 2) for each in ids}
        refused = await charges.correct(raw, held.payer, token, held.dates, changes)
    assert refused == {ids[0]}, "it is charged by nobody: its next claim charges it"
    assert await spent(desk) == (5 * CENT, 5 * CENT), "three as billed, and two for the last one's parts"


@pytest.fixture
async def ops(post: Post) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(post.runtime.database_url)
    await connection.execute("SET ROLE outrider_ops")
    yield connection
    await connection.close()


async def test_the_runbooks_statements_work_as_written_and_are_audited(desk: Desk, ops: asyncpg.Connection) -> None:
    await price(desk, CENT)
    await limit(desk, 2)
    ids = await desk.admit(4)
    assert (await desk.claim()).batch is not None
    tenant = desk.tenant_id
    row = await ops.fetchrow(f"SELECT * FROM budgets WHERE tenant_id = '{tenant}'")
    assert (row["daily_spent_cents"], row["monthly_spent_cents"]) == (2, 2)
    assert await ops.fetchval(f"SELECT daily_budget_cents FROM tenants WHERE id = '{tenant}'") == 2
    status = await ops.fetchrow(f"""
        SELECT t.name, b.daily_spent_cents / 100.0 as daily_spent, t.daily_budget_cents / 100.0 as daily_budget,
          b.monthly_spent_cents / 100.0 as monthly_spent, t.monthly_budget_cents / 100.0 as monthly_budget
        FROM tenants t JOIN budgets b ON b.tenant_id = t.id WHERE t.id = '{tenant}'""")
    assert (float(status["daily_spent"]), float(status["daily_budget"])) == (0.02, 0.02)
    assert await ops.execute(f"UPDATE tenants SET daily_budget_cents = 3 WHERE id = '{tenant}'") == "UPDATE 1"
    assert await money.adopt_hand_changes(desk.post.runtime) == 1
    await promote(desk)
    claim = await desk.claim()
    assert claim.batch is not None
    assert list(claim.batch.messages) == ids[2:3]
    reset = await ops.execute(f"UPDATE budgets SET daily_spent_cents = 0 WHERE tenant_id = '{tenant}'")
    assert reset == "UPDATE 1"
    assert await money.adopt_hand_changes(desk.post.runtime) == 1
    await promote(desk)
    after = await desk.claim()
    assert after.batch is not None
    assert list(after.batch.messages) == ids[3:]
    row = await ops.fetchrow(f"SELECT * FROM budgets WHERE tenant_id = '{tenant}'")
    assert (row["daily_spent_cents"], row["monthly_spent_cents"]) == (1, 4), "only the day was reset"
    rows = await desk.post.fetch(
        "SELECT action, actor, details::text FROM audit_log WHERE tenant_id = $1 AND actor LIKE 'sql:%' ORDER BY seq",
        tenant,
    )
    assert [row["action"] for row in rows] == ["budget.set", "budget.reset"]
    assert '"daily_spent_cents": [3, 0]' in rows[1]["details"]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ops.execute(f"UPDATE tenants SET name = 'mine' WHERE id = '{tenant}'")


@pytest.mark.parametrize("wrong", [-1, 10**14])
async def test_what_no_budget_can_be_is_refused(desk: Desk, wrong: int) -> None:
    with pytest.raises(Refused, match="cents"):
        await limit(desk, wrong)
    await desk.admit(1)
    assert (await desk.claim()).batch is not None


async def test_a_retry_spends_from_the_budget_of_the_campaign_it_sends_again(desk: Desk) -> None:
    await price(desk, CENT)
    campaign, retry = await launched(desk, 3), await launched(desk, 6)
    await fanned_out(desk.post)
    await desk.post.execute("UPDATE campaigns SET retry_of = $1 WHERE id = $2", campaign.id, retry.id)
    await limit(desk, 5, campaign_id=campaign.id)
    assert await desk.claim(lane=await campaign.lane())
    claim = await desk.claim(lane=await retry.lane())
    assert claim.batch is not None
    assert len(claim.batch.messages) == 2, "three of the five cents are the campaign's own"
    held = [each for each in await retry.messages() if each not in claim.batch.messages]
    assert "0.05 of 0.05 are spent" in (await desk.message(held[0]))["waiting_for"]
    await record(desk, claim.batch.token, [next(iter(claim.batch.messages))], "hand_back")
    shown = await limit(desk, 6, campaign_id=retry.id)
    assert (shown.scope_id, shown.daily_spent_cents) == (campaign.id, 4), "what was not sent came back"
    await promote(desk)
    again = await desk.claim(lane=await retry.lane())
    assert again.batch is not None
    assert len(again.batch.messages) == 2
    assert (await limit(desk, 0, campaign_id=campaign.id)).daily_spent_cents == 6


async def test_nobody_sets_the_budget_of_anothers_campaign(desk: Desk, post: Post) -> None:
    other: Any = await post.desk()
    campaign = await launched(other, 1)
    with pytest.raises(Refused):
        await limit(desk, 1, campaign_id=campaign.id)
