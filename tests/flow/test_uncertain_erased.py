"""A message whose answer was lost, of a person erased since: nothing more goes out for them, by nobody's hand."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from outrider.contracts.actor import Actor
from outrider.domain.messages import keyed, people, uncertain
from outrider.domain.messages.rows import KEYED, SQL
from outrider.engine.dispatch.record import Row, write
from tests.kit.dispatch import BOUND_S, Desk, Post, until
from tests.kit.postgres import IS_WAITED_FOR

WHO = Actor("user", "ops@example.org", "127.0.0.1")
_LEASE = "UPDATE queue SET state = 1, token = 7, attempt = 1, lease_until = now() WHERE message_id = ANY($1)"


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk(transactional_guarantee="at_most_once")


async def in_doubt(desk: Desk, count: int) -> list[UUID]:
    """Messages whose answer was lost."""
    ids = await desk.admit(count)
    async with desk.engine() as uow:
        await uow.raw.execute(_LEASE, ids)
        rows = [Row("finish", each, 7, "uncertain", None, "answer_lost", "") for each in ids]
        await write(uow.raw, desk.tenant_id, rows)
    assert await desk.states(ids) == ["uncertain"] * count
    return ids


async def test_what_was_lost_of_an_erased_person_is_not_sent_again_by_people_but_can_be_settled(desk: Desk) -> None:
    erased, other = await in_doubt(desk, 2)
    async with desk.engine() as uow:
        await people.blank(uow, [erased])
    async with desk.engine() as uow:
        assert await uncertain.resend(uow, WHO, desk.tenant_id, [erased, other], reason="try again") == [other]
    assert await desk.states([erased, other]) == ["uncertain", "queued"]
    async with desk.engine() as uow:
        assert await uncertain.mark(uow, WHO, desk.tenant_id, [erased], state="failed", reason="erased") == [erased]
    assert await desk.states([erased]) == ["failed"]


async def test_what_is_asked_of_providers_leaves_erased_people_out(desk: Desk) -> None:
    erased, other = await in_doubt(desk, 2)
    async with desk.engine() as uow:
        await people.blank(uow, [erased])
        rows = await SQL.in_doubt.many(uow.raw, desk.tenant_id, 0.0, 0.0, ["email"], [erased, other], None, None, 10)
    assert [row["id"] for row in rows] == [other]


async def test_a_request_with_an_erased_person_in_it_is_not_made_again(desk: Desk) -> None:
    erased, other = await in_doubt(desk, 2)
    key = str(uuid4())
    async with desk.engine() as uow:
        await keyed.keep(uow.raw, desk.tenant_id, key=key, connection_id=uuid4(), ids=[erased, other], token=7)
        await people.blank(uow, [erased])
        members = await KEYED.members.many(uow.raw, desk.tenant_id, key)
    assert [(row["message_id"], row["place"], row["places"]) for row in members] == [(other, 1, 2)], (
        "not whole any more"
    )


async def test_an_erasure_waits_for_a_report_about_the_same_message_and_neither_is_undone(desk: Desk) -> None:
    (message_id,) = await in_doubt(desk, 1)

    async def erased() -> None:
        async with desk.engine() as uow:
            await people.blank(uow, [message_id])

    async with desk.post.engine.transaction() as report:  # as reports lock: the message, then the list
        pid = await report.fetchval("SELECT pg_backend_pid()")

        async def is_waited_for() -> bool:
            return bool(await desk.post.value(IS_WAITED_FOR, pid))

        await report.fetch("SELECT FROM messages WHERE id = $1 FOR UPDATE", message_id)
        task = asyncio.create_task(erased())
        await until(is_waited_for)
        await report.execute("DELETE FROM uncertain_messages WHERE message_id = $1", message_id)
    await asyncio.wait_for(task, BOUND_S)
    assert (await desk.message(message_id))["address"] == "erased"
