"""The whole walk of an email by Resend over real servers: worker, sandbox, events; and requests that are repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.contracts.outcome import Outcome
from outrider.data.db import Role
from outrider.domain.messages import uncertain
from outrider.engine.dispatch.reconcile import Reconciler
from outrider.engine.dispatch.repeats import Repeater
from outrider.interfaces.sandbox.resend.options import Rule
from outrider.plugins.providers.resend.transport import ResendTransport
from tests.kit.api import TESTER
from tests.kit.campaigns import IN_A_CANCELLED_CAMPAIGN
from tests.kit.resending import BOUND_S, DOMAIN, Resending, resending

PEOPLE = [f"p{n}@{DOMAIN}" for n in range(30)]


@pytest.fixture
async def office(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Resending]:
    async with resending(migrated_url, tmp_path, monkeypatch) as made:
        yield made


def taken(office: Resending) -> list[str]:
    return sorted(entry.to for entry in office.sandbox.taken)


async def in_doubt(office: Resending, count: int) -> list[UUID]:
    """Messages to so many people whose request never arrived, which nobody knows; the line is sound from now on."""
    office.sandbox.rules = [Rule(cut="before")]
    ids = [await office.accepted(person) for person in PEOPLE[:count]]
    async with office.working():
        await office.until_state("uncertain", len(ids))
    assert office.sandbox.taken == []
    office.sandbox.rules = []
    return ids


async def test_emails_go_out_together_and_are_delivered_however_their_events_come(office: Resending) -> None:
    office.sandbox.rules = [Rule(copies=2, order="shuffled")]
    for person in PEOPLE:
        await office.accepted(person)
    async with office.working():
        await office.until_state("delivered", len(PEOPLE))
        await office.sandbox.settled()
    assert taken(office) == sorted(PEOPLE)
    assert office.sandbox.posted_count < len(PEOPLE) / 2, "they shared requests"
    counted = await office.rows("SELECT count(*) FROM message_events WHERE tenant_id = $1 AND kind = 'delivered'")
    assert counted[0][0] == len(PEOPLE)
    async with office.api.engine() as uow:
        named = await uow.raw.fetchval(
            "SELECT count(*) FROM account_turns t JOIN connections c ON c.account = t.account WHERE c.tenant_id = $1",
            DEFAULT_TENANT,
        )
    assert named == 1, "their requests took the turns of the account, which all workers share"


async def test_a_request_that_nobody_answered_is_repeated_with_its_key_and_delivered_once(office: Resending) -> None:
    office.sandbox.rules = [Rule(cut="after", events=[])]
    ids = [await office.accepted(person) for person in PEOPLE]
    async with office.working():
        await office.until_state("uncertain", len(ids))
    lost = {entry.key for entry in office.sandbox.taken}
    assert taken(office) == sorted(PEOPLE), "it was taken, and nobody was told"
    office.sandbox.rules = []
    await office.repeated()
    await office.until_state("sent", len(ids))
    assert taken(office) == sorted(PEOPLE), "the repetition delivered nothing again"
    replayed = [entry for entry in office.sandbox.ledger.entries if entry.outcome == "replayed"]
    assert {entry.key for entry in replayed} == lost
    rows = await office.rows("SELECT id, provider_id FROM messages WHERE tenant_id = $1")
    known = {entry.email["tags"][0]["value"]: entry.id for entry in office.sandbox.taken}
    assert {str(row["id"]): row["provider_id"] for row in rows} == known
    assert await office.rows("SELECT 1 FROM uncertain_messages WHERE tenant_id = $1") == []


async def test_a_request_that_never_arrived_goes_now_as_it_was(office: Resending) -> None:
    ids = await in_doubt(office, 5)
    await office.rows("UPDATE keyed_requests SET due_at = now() WHERE tenant_id = $1")
    async with office.working():
        await office.until_state("delivered", len(ids))
    assert taken(office) == sorted(PEOPLE[:5])


@pytest.mark.parametrize("how", ["suppressed", "marked", "changed", "cancelled", "old"])
async def test_what_must_not_go_any_more_is_not_repeated(office: Resending, how: str) -> None:
    ids = await in_doubt(office, 3)
    await office.rows("UPDATE keyed_requests SET due_at = now() WHERE tenant_id = $1")
    if how == "suppressed":
        body = {"channel": "email", "address": PEOPLE[1], "reason": "manual"}
        assert (await office.owner.post("/api/v1/suppressions", body)).status == 200
    elif how == "marked":
        chosen = {"ids": [str(ids[0])], "state": "failed", "reason": "test"}
        marked = await office.owner.post("/api/v1/uncertain/mark", chosen)
        assert marked.status == 200, marked.text
    elif how == "changed":
        path = f"/api/v1/connections/{office.connection['id']}"
        changed = await office.owner.patch(path, {"settings": {"connections": 2}})
        assert changed.status == 200, changed.text
        await office.rows("UPDATE keyed_requests SET made_at = made_at - interval '1 minute' WHERE tenant_id = $1")
    elif how == "cancelled":
        await office.rows(IN_A_CANCELLED_CAMPAIGN, ids[1])
    else:
        await office.rows("UPDATE keyed_requests SET ends_at = now() WHERE tenant_id = $1")
    before = office.sandbox.posted_count
    await office.repeated()
    assert office.sandbox.posted_count == before
    live = await office.rows("SELECT 1 FROM keyed_requests WHERE tenant_id = $1 AND ends_at > now()")
    assert live == [], "from now on the provider's list is asked"


async def test_what_people_send_again_is_no_longer_part_of_the_request_it_went_in(office: Resending) -> None:
    ids = await in_doubt(office, 2)
    resent = await office.owner.post("/api/v1/uncertain/resend", {"ids": [str(ids[0])], "reason": "test"})
    assert resent.status == 200, resent.text
    rows = await office.rows("SELECT message_id FROM keyed_requests WHERE tenant_id = $1")
    assert [row["message_id"] for row in rows] == ids[1:], "it may go by a connection that knows no keys"


async def test_what_is_being_repeated_is_not_sent_again_by_people_at_the_same_time(
    office: Resending, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await in_doubt(office, 3)
    asked, go = asyncio.Event(), asyncio.Event()
    repeat = ResendTransport.repeat

    async def slow(transport: ResendTransport, *given: Any) -> list[Outcome] | None:
        asked.set()
        await go.wait()
        return await repeat(transport, *given)

    monkeypatch.setattr(ResendTransport, "repeat", slow)
    repeating = asyncio.create_task(office.repeated())
    try:
        async with asyncio.timeout(BOUND_S):
            await asked.wait()
            for path, more in (("resend", {}), ("mark", {"state": "failed"})):
                body = {"ids": [str(each) for each in ids], "reason": "test", **more}
                told = await office.owner.post(f"/api/v1/uncertain/{path}", body)
                assert (told.status, told.json["ids"]) == (200, []), "they are on the wire at this moment"
    finally:
        go.set()
        await asyncio.wait_for(repeating, BOUND_S)
    async with office.working():
        await office.until_state("delivered", len(ids))
    assert taken(office) == sorted(PEOPLE[:3])


@pytest.mark.parametrize("how", ["suppressed", "cancelled"])
async def test_what_is_stopped_or_cancelled_while_its_repetition_waits_for_its_turn_does_not_go(
    office: Resending, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    ids = await in_doubt(office, 3)
    asked, go = asyncio.Event(), asyncio.Event()
    said: list[str] = []
    repeat, withheld = ResendTransport.repeat, Repeater._withheld

    async def slow(transport: ResendTransport, *given: Any) -> list[Outcome] | None:
        asked.set()
        await go.wait()
        return await repeat(transport, *given)

    async def noted(repeater: Repeater, *given: Any) -> str:
        said.append(await withheld(repeater, *given))
        return said[-1]

    monkeypatch.setattr(ResendTransport, "repeat", slow)
    monkeypatch.setattr(Repeater, "_withheld", noted)
    repeating = asyncio.create_task(office.repeated())
    try:
        async with asyncio.timeout(BOUND_S):
            await asked.wait()
            if how == "suppressed":
                body = {"channel": "email", "address": PEOPLE[1], "reason": "manual"}
                assert (await office.owner.post("/api/v1/suppressions", body)).status == 200
            else:
                await office.rows(IN_A_CANCELLED_CAMPAIGN, ids[1])
            while not any(said):  # noqa: ASYNC110 - nobody tells that it has noticed
                await asyncio.sleep(0.01)
    finally:
        go.set()
        await asyncio.wait_for(repeating, BOUND_S)
    assert office.sandbox.taken == []


async def test_what_people_are_about_to_send_again_is_not_repeated_at_the_same_time(office: Resending) -> None:
    ids = await in_doubt(office, 3)
    async with office.api.runtime.db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
        await office.rows("UPDATE keyed_requests SET due_at = now() WHERE tenant_id = $1")
        assert await uncertain.resend(uow, TESTER, DEFAULT_TENANT, ids[:1], reason="test") == ids[:1]
        await office.repeated(is_due=True)
        assert office.sandbox.taken == [], "a request is repeated whole or not at all"
    async with office.working():
        await office.until_state("delivered", 1)
    assert taken(office) == PEOPLE[:1]


async def test_while_all_is_stopped_nothing_is_repeated_and_afterwards_it_is(office: Resending) -> None:
    (lost,) = await in_doubt(office, 1)
    before = office.sandbox.posted_count
    stop = await office.owner.post("/api/v1/switches/pause", {"scope": "tenant", "reason": "test"})
    assert stop.status == 200, stop.text
    await office.repeated()
    assert (await office.state(lost))[0] == "uncertain"
    assert office.sandbox.posted_count == before
    assert (await office.owner.post("/api/v1/switches/resume", {"scope": "tenant", "reason": "test"})).status == 200
    await office.repeated()
    assert (await office.state(lost))[0] == "sent"


async def test_what_cannot_be_repeated_any_more_is_looked_for_in_the_providers_list(office: Resending) -> None:
    office.sandbox.rules = [Rule(to="p0@*", cut="after", events=[]), Rule(to="p1@*", cut="before")]
    there = await office.accepted(PEOPLE[0])
    async with office.working():
        await office.until_state("uncertain", 1)
    nowhere = await office.accepted(PEOPLE[1])
    async with office.working():
        await office.until_state("uncertain", 2)
    office.sandbox.rules = []
    await office.rows("UPDATE keyed_requests SET due_at = now() + interval '1 hour' WHERE tenant_id = $1")
    asked = Reconciler(office.api.runtime, asked_after_s=0, believed_after_s=0)
    await asked.step()
    assert [(await office.state(each))[0] for each in (there, nowhere)] == ["uncertain"] * 2, "they can be repeated"
    await office.rows("UPDATE keyed_requests SET ends_at = now() WHERE tenant_id = $1")
    await asked.step()
    assert (await office.state(there))[0] == "sent"
    assert (await office.state(nowhere))[0] == "queued", "it goes again"


async def test_a_bounce_lists_the_address_and_a_complaint_does_and_one_that_may_pass_does_not(
    office: Resending,
) -> None:
    hard, soft, angry, before = [await office.sent(person) for person in PEOPLE[:4]]
    bounce = {"type": "Permanent", "subType": "General", "message": "no such user"}
    assert await office.tell("email.bounced", hard, data={"bounce": bounce}) == 200
    later = {"type": "Transient", "subType": "MailboxFull", "message": "full"}
    assert await office.tell("email.bounced", soft, data={"bounce": later}) == 200
    assert await office.tell("email.delivered", angry) == 200
    assert await office.tell("email.complained", angry) == 200
    suppressed = {"reason": "previous_bounce", "message": "as before"}
    assert await office.tell("email.suppressed", before, data={"suppressed": suppressed}) == 200
    await office.applied()
    states = [await office.state(each) for each in (hard, soft, angry, before)]
    assert states == [
        ("bounced", "bounced_permanently"), ("bounced", "bounced_for_now"), ("delivered", None),
        ("failed", "bounced_permanently"),
    ]  # fmt: skip
    rows = await office.rows("SELECT address, reason FROM suppressions WHERE tenant_id = $1 ORDER BY address")
    assert [tuple(row) for row in rows] == [
        (PEOPLE[0], "hard_bounce"), (PEOPLE[2], "complaint"), (PEOPLE[3], "hard_bounce"),
    ]  # fmt: skip


async def test_what_it_drops_over_a_quota_after_it_took_it_has_failed_and_promises_no_repetition(
    office: Resending,
) -> None:
    dropped, refused = [await office.sent(person) for person in PEOPLE[:2]]
    assert await office.tell("email.failed", dropped, data={"failed": {"reason": "reached_daily_quota"}}) == 200
    assert await office.tell("email.failed", refused, data={"failed": {"reason": "invalid"}}) == 200
    await office.applied()
    assert await office.state(dropped) == ("failed", "daily_quota_late")
    assert await office.state(refused) == ("failed", "request_refused")


async def test_events_of_other_systems_of_the_account_are_kept_and_move_nothing(office: Resending) -> None:
    mine = await office.sent()
    assert await office.tell("email.bounced", None, email_id="0" * 36) == 200
    await office.applied()
    assert (await office.state(mine))[0] == "sent"
    rows = await office.rows("SELECT state, note FROM webhook_events WHERE tenant_id = $1")
    assert [tuple(row) for row in rows] == [("orphan", "names no message")]
