"""The whole walk of a text over real servers: worker, sandbox, callbacks; and lost answers that are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest

from outrider.contracts.callbacks import Lost
from outrider.engine.dispatch import reconcile
from outrider.engine.dispatch.reconcile import Reconciler
from outrider.engine.dispatch.run import WorkerOptions, run
from outrider.engine.inbound import reports
from outrider.interfaces.sandbox.twilio.options import Rule
from outrider.plugins.providers.twilio.transport import TwilioTransport
from tests.kit.campaigns import IN_A_CANCELLED_CAMPAIGN
from tests.kit.texting import PHONE, Texting, texting

_BOUND_S = 120.0


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


async def in_doubt(office: Texting) -> UUID:
    """A message that no provider has, whose answer was lost."""
    office.sandbox.rules = [Rule(cut="before")]
    lost = await office.accepted(PHONE)
    async with working(office):
        await until_state(office, "uncertain", 1)
    office.sandbox.rules = []
    return lost


async def reconciled(office: Texting, message_id: UUID) -> str:
    await Reconciler(office.api.runtime, asked_after_s=0, believed_after_s=0).step()
    return (await office.state(message_id))[0]


async def test_it_goes_again_only_when_every_connection_says_that_it_has_no_such_message(
    office: Texting, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**office.connection["settings"], "auth_token": "first-token"}
    body = {"name": "spare", "provider": "twilio", "settings": given}
    spare = (await office.owner.post("/api/v1/connections", body)).json["id"]
    path = f"/api/v1/senders/{office.sender['id']}/fallbacks"
    chosen = await office.owner.put(path, {"fallback_ids": [spare]})
    assert chosen.status == 200, chosen.text
    await office.rows("UPDATE senders SET updated_at = created_at WHERE tenant_id = $1 RETURNING 1")
    lost = await in_doubt(office)
    asked: list[TwilioTransport] = []

    async def find(transport: TwilioTransport, wanted: list[Lost]) -> dict[UUID, str | None]:
        asked.append(transport)
        return {each.id: None for each in wanted} if len(asked) == 1 else {}

    with monkeypatch.context() as patch:
        patch.setattr(TwilioTransport, "find", find)
        assert await reconciled(office, lost) == "uncertain"
    assert len(asked) == 2
    assert await reconciled(office, lost) == "queued"


async def test_neither_what_nobody_can_tell_about_nor_a_hanging_answer_keeps_the_others_in_doubt(
    office: Texting, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_AT_ONCE", 2), ("_SLICE", 1), ("_LANE_S", 3.0)):
        monkeypatch.setattr(reconcile, name, value)
    office.sandbox.rules = [Rule(cut="after", statuses=[])]
    ids = [await office.accepted(f"+1415555267{n}") for n in range(4)]
    async with working(office):
        await until_state(office, "uncertain", 4)
    office.sandbox.rules = []
    hanging, unknown, *others = [
        row["message_id"]
        for row in await office.rows("SELECT message_id FROM uncertain_messages WHERE tenant_id = $1 ORDER BY since, 1")
    ]
    find = TwilioTransport.find

    async def look(transport: TwilioTransport, wanted: list[Lost]) -> dict[UUID, str | None]:
        if wanted[0].id == hanging:
            await asyncio.Event().wait()
        return {} if wanted[0].id == unknown else await find(transport, wanted)

    monkeypatch.setattr(TwilioTransport, "find", look)
    asked = Reconciler(office.api.runtime, asked_after_s=0, believed_after_s=3600)
    async with asyncio.timeout(_BOUND_S):
        await asked.step()
        await asked.step()
    assert [(await office.state(each))[0] for each in others] == ["sent", "sent"]
    assert {(await office.state(each))[0] for each in ids if each not in others} == {"uncertain"}


async def test_two_alike_that_are_asked_about_one_after_the_other_are_not_the_same_one(
    office: Texting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "_SLICE", 1)
    office.sandbox.rules = [Rule(cut="after", statuses=[])]
    ids = [await office.accepted(PHONE) for _ in range(2)]
    async with working(office):
        await until_state(office, "uncertain", 2)
    office.sandbox.rules = []
    await Reconciler(office.api.runtime, asked_after_s=0, believed_after_s=3600).step()
    assert {(await office.state(each))[0] for each in ids} == {"sent"}
    sids = {row[0] for row in await office.rows("SELECT provider_id FROM messages WHERE tenant_id = $1")}
    assert len(sids) == 2


async def test_nothing_goes_again_when_its_sender_has_been_changed_since(office: Texting) -> None:
    lost = await in_doubt(office)
    path = f"/api/v1/senders/{office.sender['id']}/fallbacks"
    assert (await office.owner.put(path, {"fallback_ids": []})).status == 200
    assert await reconciled(office, lost) == "uncertain", "another account may have taken it"


async def test_what_did_not_go_before_its_campaign_was_cancelled_is_cancelled_and_nobody_sends_it_again(
    office: Texting,
) -> None:
    lost = await in_doubt(office)
    await office.rows(IN_A_CANCELLED_CAMPAIGN, lost)
    resent = await office.owner.post("/api/v1/uncertain/resend", {"ids": [str(lost)], "reason": "test"})
    assert (resent.status, resent.json["count"]) == (200, 0), resent.text
    told = await office.owner.post("/api/v1/uncertain/reconcile", {"ids": [str(lost)], "reason": "test"})
    assert told.json["undecided"] == [str(lost)], "a list may be behind: not yet"
    assert await reconciled(office, lost) == "cancelled"
    async with working(office):
        await office.accepted("+14155552672")
        await until_state(office, "delivered", 1)
    assert [entry.to for entry in office.sandbox.ledger.entries if entry.outcome == "accepted"] == ["+14155552672"]
    assert await office.rows("SELECT 1 FROM uncertain_messages WHERE tenant_id = $1") == []


async def test_asking_takes_no_turn_to_try_a_connection_and_gives_back_what_was_charged(office: Texting) -> None:
    lost = await in_doubt(office)
    circuit = (
        "INSERT INTO circuits"
        " (tenant_id, connection_id, state, failures, openings, cause, failed_at, opened_at, try_at)"
        " VALUES ($1, $2, 'open', 3, 1, 'provider_down', now(), now(), now())"
        " ON CONFLICT (tenant_id, connection_id) DO UPDATE SET state = excluded.state, openings = excluded.openings,"
        " opened_at = excluded.opened_at, try_at = excluded.try_at RETURNING 1"
    )
    await office.rows(circuit, UUID(office.connection["id"]))
    charge = (
        "INSERT INTO charges (tenant_id, message_id, token, micros, segments, day_on, month_on)"
        " VALUES ($1, $2, 1, 70000, 1, current_date, current_date) RETURNING 1"
    )
    await office.rows(charge, lost)
    assert await reconciled(office, lost) == "queued"
    assert [row["state"] for row in await office.rows("SELECT state FROM circuits WHERE tenant_id = $1")] == ["open"]
    assert await office.rows("SELECT 1 FROM charges WHERE tenant_id = $1") == []


async def test_a_person_has_the_providers_asked_about_all_with_a_count_and_it_is_audited(office: Texting) -> None:
    office.sandbox.rules = [Rule(to="*1", cut="after", statuses=[]), Rule(to="*2", cut="before")]
    taken, lost = await office.accepted("+14155552671"), await office.accepted("+14155552672")
    async with working(office):
        await until_state(office, "uncertain", 2)
    office.sandbox.rules = []
    await office.rows(
        "UPDATE uncertain_messages SET since = since - interval '5 days' WHERE tenant_id = $1 RETURNING 1"
    )
    path, wanted = "/api/v1/uncertain/reconcile", {"reason": "the campaign is over"}
    refused = await office.owner.post(path, {**wanted, "count": 1})
    assert (refused.status, refused.json["code"]) == (409, "count_differs")
    told = await office.owner.post(path, {**wanted, "count": 2})
    assert told.status == 200, told.text
    assert told.json == {"sent": [str(taken)], "again": [str(lost)], "withdrawn": [], "undecided": [], "left_count": 0}
    assert ((await office.state(taken))[0], (await office.state(lost))[0]) == ("sent", "queued")
    (audited,) = (await office.owner.get("/api/v1/audit?action=uncertain.reconcile")).json["items"]
    assert (audited["reason"], audited["details"]["sent"], audited["details"]["again"]) == (wanted["reason"], 1, 1)
    nothing = await office.owner.post(path, {"reason": "again", "ids": [str(taken)]})
    assert nothing.json["undecided"] == [str(taken)], "it is certain by now"


async def test_what_no_provider_can_say_stays_for_a_decision(office: Texting) -> None:
    lost = await in_doubt(office)
    changed = "UPDATE senders SET updated_at = now() + interval '1 second' WHERE tenant_id = $1 RETURNING 1"
    await office.rows(changed)
    told = await office.owner.post("/api/v1/uncertain/reconcile", {"reason": "test", "ids": [str(lost)]})
    assert (told.json["again"], told.json["undecided"]) == ([], [str(lost)])
    assert (await office.state(lost))[0] == "uncertain"
