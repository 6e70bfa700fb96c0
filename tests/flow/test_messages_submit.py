"""Submission of many messages at once: checked as a whole, without keeping the process from everything else."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from outrider.base.clock import utc_now
from outrider.base.errors import Refused, RefusedMany
from outrider.domain.messages import submit
from outrider.domain.messages.draft import Draft
from outrider.domain.messages.submit import Submission
from tests.kit.dispatch import Desk, GlassChannel, Post

COUNT = 1_000


class Reading(GlassChannel):
    """Notes how often others had had their turn when each address was read; some addresses are none."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0
        self.seen: list[int] = []

    def normalise(self, address: str, *, field: str = "address", region: str = "") -> str:
        """Take any address that has an @."""
        del region
        self.seen.append(self.turns)
        if "@" not in address:
            raise Refused("invalid_address", "is none", field=field)
        return address

    async def go_on(self) -> None:
        """What the process does beside."""
        while True:
            self.turns += 1
            await asyncio.sleep(0)


async def accepted(desk: Desk, channel: Reading, addresses: list[str]) -> list[UUID]:
    drafts = [Draft(f"/messages/{at}", address, text="hello") for at, address in enumerate(addresses)]
    beside = asyncio.create_task(channel.go_on())
    try:
        async with desk.engine() as uow:
            return await Submission(uow, {"email": channel}, desk.post.runtime.renderer, utc_now()).accept(drafts)
    finally:
        beside.cancel()


@pytest.fixture
async def desk(post: Post, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A tenant whose messages have the content that is there already."""
    desk = await post.desk()

    async def content(*_given: object) -> UUID:
        return desk.content_id

    monkeypatch.setattr(Submission, "_inline", content)
    return desk


async def test_others_have_their_turn_while_many_messages_are_checked(post: Post, desk: Desk) -> None:
    channel = Reading()
    ids = await accepted(desk, channel, [f"p{at}@example.org" for at in range(COUNT)])
    assert len(set(channel.seen)) >= COUNT // 100
    rows = await post.fetch("SELECT address FROM messages WHERE tenant_id = $1 ORDER BY id", desk.tenant_id)
    assert [row["address"] for row in rows] == [f"p{at}@example.org" for at in range(COUNT)], "in their order"
    assert ids == sorted(ids)


async def test_mistakes_are_named_in_the_order_of_the_messages_and_nothing_is_accepted(
    post: Post, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = Reading()
    monkeypatch.setattr(submit, "_YIELD_COUNT", 7)
    with pytest.raises(RefusedMany) as refused:
        await accepted(desk, channel, [f"p{at}" if at % 5 == 0 else f"p{at}@example.org" for at in range(COUNT)])
    assert [error.field for error in refused.value.errors] == [f"/messages/{at * 5}/to" for at in range(100)]
    assert len(channel.seen) == 496, "no more is read than is told of"
    assert await post.value("SELECT count(*) FROM messages WHERE tenant_id = $1", desk.tenant_id) == 0
