"""A provider that hangs leaves room for others, also where its senders were read after their batches were claimed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from outrider.contracts.provider import Outgoing, Watch
from outrider.engine.dispatch import pipeline
from outrider.engine.dispatch.batch import Batch
from outrider.engine.dispatch.making import Maker
from tests.kit.dispatch import Desk, GlassProvider, Post, send_soundly, until

SENDERS, EACH = 20, 4
HALF = pipeline._MOST_BATCHES // 2


async def another(desk: Desk, provider: str) -> UUID:
    """A sender of the same tenant by a connection of another provider."""
    connection_id = await desk.post.value(
        "INSERT INTO connections (tenant_id, name, provider) VALUES ($1, $2, $2) RETURNING id", desk.tenant_id, provider
    )
    return await replace(desk, connection_id=connection_id).sender(provider)


async def test_senders_that_hang_and_were_claimed_before_they_were_read_leave_room_for_one_that_was_not(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, read, prepared = asyncio.Event(), asyncio.Event(), 0
    prepare = Maker.prepare

    async def late(self: Maker, batch: Batch) -> Any:
        nonlocal prepared
        await read.wait()
        prepared += 1
        return await prepare(self, batch)

    async def hang(provider: GlassProvider, batch: Sequence[Outgoing], watch: Watch) -> None:
        await go.wait()
        await send_soundly(provider, batch, watch)

    monkeypatch.setattr(Maker, "prepare", late)
    post.provider.send = hang
    post.runtime = replace(post.runtime, providers={**post.runtime.providers, "quick": GlassProvider(key="quick")})
    desk = await post.desk()
    for number in range(SENDERS):
        await desk.admit(EACH, sender_id=await desk.sender(f"slow {number}"))
    async with post.working(lanes_in_flight=EACH, claim_batch=1) as worker:

        async def are_claimed() -> bool:
            return len(worker.batches) >= HALF

        async def are_read() -> bool:
            return prepared >= HALF

        await until(are_claimed)
        read.set()
        await until(are_read)
        ids = await desk.admit(3, sender_id=await another(desk, "quick"))
        await desk.until(ids, "sent")
        assert not go.is_set()
        go.set()
