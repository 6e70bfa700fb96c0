"""The whole walk of a text over real servers: worker, sandbox, callbacks; and lost answers that are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from outrider.engine.dispatch.reconcile import Reconciler
from outrider.engine.dispatch.run import WorkerOptions, run
from outrider.engine.inbound import reports
from outrider.interfaces.sandbox.twilio.options import Rule
from tests.kit.texting import PHONE, Texting, texting

_BOUND_S = 30.0


@pytest.fixture
async def office(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Texting]:
    async with texting(migrated_url, tmp_path, monkeypatch) as made:
        yield made


@asynccontextmanager
async def working(office: Texting) -> AsyncIterator[None]:
    """A worker with its loops until the block ends."""
    stop = asyncio.Event()
    runtime = office.api.runtime
    options = WorkerOptions(health_port=None)
    loops = reports.loops(runtime)
    task = asyncio.create_task(run(runtime, worker=options, stop=stop, ready=lambda _where: None, loops=loops))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, _BOUND_S)


async def until_state(office: Texting, state: str, count: int) -> None:
    statement = "SELECT count(*) FROM messages WHERE tenant_id = $1 AND state = $2"
    async with asyncio.timeout(_BOUND_S):
        while (await office.rows(statement, state))[0][0] != count:  # noqa: ASYNC110 - a row tells nobody
            await asyncio.sleep(0.02)


async def test_a_text_goes_out_and_is_delivered_however_its_callbacks_come(office: Texting) -> None:
    office.sandbox.rules = [Rule(copies=3, order="shuffled")]
    people = [f"+1415555{n:04}" for n in range(2000, 2020)]
    async with working(office):
        for person in people:
            await office.accepted(person)
        await until_state(office, "delivered", len(people))
        await office.sandbox.settled()
    entries = office.sandbox.ledger.entries
    assert sorted(entry.to for entry in entries) == people
    assert all(entry.status_callback.startswith(office.callback_url) for entry in entries)
    statement = "SELECT count(*) FROM message_events WHERE tenant_id = $1 AND kind = 'delivered'"
    assert (await office.rows(statement))[0][0] == len(people)


async def test_a_stop_keeps_what_waits_from_going(office: Texting) -> None:
    await office.wrote("STOP")
    waiting = await office.accepted(PHONE)
    other = await office.accepted("+14155552672")
    async with working(office):
        await until_state(office, "delivered", 1)
    assert [entry.to for entry in office.sandbox.ledger.entries if entry.outcome != "reply"] == ["+14155552672"]
    assert waiting != other


async def test_what_was_taken_is_found_and_what_was_not_goes_again(office: Texting) -> None:
    office.sandbox.rules = [Rule(to="*1", cut="after", statuses=[]), Rule(to="*2", cut="before")]
    taken, lost = await office.accepted("+14155552671"), await office.accepted("+14155552672")
    async with working(office):
        await until_state(office, "uncertain", 2)
    office.sandbox.rules = []
    asked = Reconciler(office.api.runtime, asked_after_s=0, believed_after_s=3600)
    await asked.step()
    assert (await office.state(taken))[0] == "sent"
    assert (await office.state(lost))[0] == "uncertain", "a list may be behind: not yet"
    assert await office.rows("SELECT 1 FROM webhook_events WHERE tenant_id = $1") == []
    await Reconciler(office.api.runtime, asked_after_s=0, believed_after_s=0).step()
    async with working(office):
        await until_state(office, "delivered", 1)
    assert (await office.state(lost))[0] == "delivered"
    accepted = [entry.to for entry in office.sandbox.ledger.entries if entry.outcome in {"accepted", "accepted_cut"}]
    assert sorted(accepted) == ["+14155552671", "+14155552672"]
