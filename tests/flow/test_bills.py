"""What a provider really charges: asked for page by page, put in place of what was reserved, by real requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.contracts.actor import Actor
from outrider.data.db import Role
from outrider.domain.limits import prices, switches
from outrider.engine.dispatch.bills import Biller
from outrider.engine.dispatch.run import WorkerOptions, run
from outrider.engine.inbound import reports
from outrider.interfaces.sandbox.twilio.options import Rule
from outrider.plugins.providers.twilio import bills
from tests.kit.texting import Texting, texting

_BOUND_S = 120.0
TESTER = Actor("user", "tester")
PART = 50_000
"""Micros reserved for each."""
_DUE = "UPDATE charges SET ask_at = now() WHERE tenant_id = $1 AND ask_at IS NOT NULL RETURNING 1"


@pytest.fixture
async def office(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Texting]:
    async with texting(migrated_url, tmp_path, monkeypatch) as made:
        async with made.api.runtime.db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
            await prices.add(uow, TESTER, "sms", "", PART)
        await made.rows('UPDATE tenants SET settings = settings || \'{"currency": "USD"}\' WHERE id = $1 RETURNING 1')
        yield made


@asynccontextmanager
async def working(office: Texting) -> AsyncIterator[None]:
    """A worker with the loop of reports until the block ends."""
    stop = asyncio.Event()
    runtime = office.api.runtime
    options, loops = WorkerOptions(health_port=None), reports.loops(runtime)
    task = asyncio.create_task(run(runtime, worker=options, stop=stop, ready=lambda _where: None, loops=loops))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, _BOUND_S)


async def delivered(office: Texting, count: int) -> list[UUID]:
    """Texts that went out and were delivered."""
    ids = [await office.accepted(f"+1415555{n:04}") for n in range(2000, 2000 + count)]
    statement = "SELECT count(*) FROM messages WHERE tenant_id = $1 AND state = 'delivered'"
    async with working(office), asyncio.timeout(_BOUND_S):
        while (await office.rows(statement))[0][0] != count:  # noqa: ASYNC110 - a row tells nobody
            await asyncio.sleep(0.02)
    return ids


async def spent(office: Texting) -> int:
    (row,) = await office.rows("SELECT day_spent_micros FROM budget_accounts WHERE tenant_id = $1 AND scope = 'tenant'")
    micros: int = row["day_spent_micros"]
    return micros


async def open_count(office: Texting) -> int:
    (row,) = await office.rows("SELECT count(*) FROM charges WHERE tenant_id = $1 AND ask_at IS NOT NULL")
    count: int = row[0]
    return count


async def test_prices_that_come_later_take_the_place_of_what_was_reserved(
    office: Texting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bills, "_PAGE", 3)
    office.sandbox.rules = [Rule(to="*2000", price="0.08"), Rule(to="*2001", price="0.0079")]
    await delivered(office, 8)
    assert await spent(office) == 8 * PART
    assert not await Biller(office.api.runtime).step()
    assert await spent(office) == 8 * PART, "not asked before a quarter of an hour is over"
    await office.rows(_DUE)
    before = office.sandbox.request_count
    await Biller(office.api.runtime).step()
    assert await spent(office) == 80_000 + 7 * 7_900, "one dearer, the others cheaper than thought"
    assert await open_count(office) == 0
    assert office.sandbox.request_count - before == 3, "three pages"
    (row,) = await office.rows("SELECT sum(micros)::bigint FROM charges WHERE tenant_id = $1 AND is_settled")
    assert row[0] == await spent(office)


async def test_what_has_no_price_yet_is_asked_about_again_and_in_the_end_costs_what_was_reserved(
    office: Texting,
) -> None:
    office.sandbox.rules = [Rule(price="")]
    await delivered(office, 2)
    await office.rows(_DUE)
    await Biller(office.api.runtime).step()
    assert await open_count(office) == 2
    assert not await Biller(office.api.runtime).step()
    await office.rows("UPDATE charges SET at = at - interval '8 days', ask_at = now() WHERE tenant_id = $1 RETURNING 1")
    before = office.sandbox.request_count
    await Biller(office.api.runtime).step()
    assert office.sandbox.request_count == before, "nobody is asked any more"
    assert await spent(office) == 2 * PART
    (row,) = await office.rows("SELECT bool_and(is_settled) FROM charges WHERE tenant_id = $1")
    assert row[0] is True
    assert await open_count(office) == 0


async def test_nobody_asks_while_everything_is_paused_or_the_circuit_is_open(office: Texting) -> None:
    await delivered(office, 1)
    before = office.sandbox.request_count
    async with office.api.engine() as uow:
        await switches.pause(uow, TESTER, "tenant", str(DEFAULT_TENANT), "test")
    await office.rows(_DUE)
    await Biller(office.api.runtime).step()
    async with office.api.engine() as uow:
        await switches.resume(uow, TESTER, "tenant", str(DEFAULT_TENANT), "test")
    circuit = (
        "INSERT INTO circuits"
        " (tenant_id, connection_id, state, failures, openings, cause, failed_at, opened_at, try_at)"
        " VALUES ($1, $2, 'open', 3, 1, 'provider_down', now(), now(), now() + interval '1 hour') RETURNING 1"
    )
    await office.rows(circuit, UUID(office.connection["id"]))
    await office.rows(_DUE)
    await Biller(office.api.runtime).step()
    assert office.sandbox.request_count == before
    await office.rows("DELETE FROM circuits WHERE tenant_id = $1 RETURNING 1")
    await office.rows(_DUE)
    await Biller(office.api.runtime).step()
    assert await spent(office) == 7_900


async def test_a_callback_that_names_the_price_settles_it_once(office: Texting) -> None:
    (message_id,) = await delivered(office, 1)
    (row,) = await office.rows("SELECT provider_id FROM messages WHERE tenant_id = $1 AND id = $2", message_id)
    form = {"Price": "-0.0100", "PriceUnit": "usd"}
    for _ in range(2):
        await office.report(message_id, "delivered", sid=row["provider_id"], form={**form, "RawDlrDoneDate": "1"})
        await office.report(message_id, "read", sid=row["provider_id"], form=form)
    await office.applied()
    assert await spent(office) == 10_000


async def test_a_price_that_is_no_price_is_none() -> None:
    assert bills.bill_of("-0.0075", "usd") == bills.bill_of("0.0075", "USD")
    for price, unit in ((None, "USD"), ("-0.0075", None), ("1e9", "USD"), ("-0.0075", "DOLLAR"), ("NaN", "USD")):
        assert bills.bill_of(price, unit) is None
