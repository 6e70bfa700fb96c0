"""Making: the bytes of a batch's messages, in slices that fit into memory, each rendered once and paid for.

Owns the way from claimed rows to messages ready for the wire; what cannot be made is settled here. Sends nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from uuid import UUID

from outrider.base import failpoint
from outrider.contracts.channel import Composer, Unrenderable
from outrider.contracts.outcome import Rejected, Unsent
from outrider.contracts.provider import Outgoing
from outrider.data.db import Database
from outrider.data.runtime import Runtime
from outrider.domain.messages.rows import SQL
from outrider.domain.senders.numbers import assign
from outrider.engine.dispatch.addresses import Addresses
from outrider.engine.dispatch.batch import Batch, BatchWatch, Claimed
from outrider.engine.dispatch.journal import Journal
from outrider.engine.dispatch.senders import Senders, Use
from outrider.engine.dispatch.spending import Spending

_SLICE_BYTES = 16 << 20


class Maker:
    """Makes messages for one worker."""

    def __init__(
        self, runtime: Runtime, database: Database, senders: Senders, journal: Journal, spending: Spending
    ) -> None:
        self._runtime = runtime
        self._database = database
        self._senders = senders
        self._journal = journal
        self._spending = spending
        self._addresses = Addresses(runtime)
        self._suspects = asyncio.Lock()
        """Messages that may have killed a worker are rendered one at a time, so that the next death names one."""

    async def prepare(self, batch: Batch) -> tuple[Use, list[list[Claimed]]]:
        """The sender of a batch, and its messages in slices whose bytes fit into memory; nearly always one."""
        wanted = {claimed.content_id for claimed in batch.messages.values()}
        known = self._senders.in_use(batch.lane)
        if known is not None and self._senders.at_hand(batch.lane, known, wanted, batch.tracking) is not None:
            return known, [list(batch.messages.values())]
        async with self._database.statements() as raw:
            use = await self._senders.use(raw, batch.lane)
            unknown = await self._senders.unknown(raw, batch.lane, use, wanted, batch.tracking)
            if len(unknown) == 1:  # the usual news of a small sender; when it is too heavy to be kept, it is weighed
                self._senders.remember(await self._senders.composers(raw, batch.lane, use, unknown, batch.tracking))
                unknown = await self._senders.unknown(raw, batch.lane, use, wanted, batch.tracking)
            rows = await SQL.content_weights.many(raw, batch.lane.tenant_id, unknown) if unknown else []
        return use, _slices(batch.messages.values(), {row["id"]: row["bytes"] for row in rows})

    async def make(self, batch: Batch, use: Use, part: Sequence[Claimed], watch: BatchWatch) -> list[Outgoing]:
        """The messages of a slice that can be made and paid for; the others are settled."""
        outgoing = await self._compose(batch, use, part, watch)
        return await self._pay(batch, outgoing, watch) if batch.money is not None else outgoing

    async def _compose(self, batch: Batch, use: Use, part: Sequence[Claimed], watch: BatchWatch) -> list[Outgoing]:
        """The bytes of every message that can be rendered; the others fail by themselves."""
        by_content: dict[UUID, list[Claimed]] = {}
        for claimed in part:
            by_content.setdefault(claimed.content_id, []).append(claimed)
        made = None if use.sender.numbers else self._senders.at_hand(batch.lane, use, by_content, batch.tracking)
        numbers: Mapping[str, str] = {}
        if made is None:
            async with self._database.statements() as raw:
                made = await self._senders.composers(raw, batch.lane, use, by_content, batch.tracking)
                heard = [claimed.address for claimed in part] if use.sender.numbers else []
                numbers = await assign(raw, batch.lane.tenant_id, batch.lane.sender_id, use.sender.numbers, heard)
            self._senders.remember(made)
        async with self._suspects if batch.is_suspect else nullcontext():
            return await self._render(batch, use, made.by_content, by_content, watch, numbers)

    async def _pay(self, batch: Batch, outgoing: list[Outgoing], watch: BatchWatch) -> list[Outgoing]:
        """Pay for the parts messages really have; what there is no money for goes back, and its next claim holds it."""
        channel = self._runtime.channels[batch.lane.channel]
        refused = await self._spending.correct(self._database, batch, channel, outgoing)
        for message in outgoing:
            if message.id in refused:
                watch.settle(message, Unsent("it has more parts than there is money for"))
        return [message for message in outgoing if message.id not in refused]

    async def _render(
        self,
        batch: Batch,
        use: Use,
        composers: dict[UUID, Composer],
        by_content: dict[UUID, list[Claimed]],
        watch: BatchWatch,
        numbers: Mapping[str, str],
    ) -> list[Outgoing]:
        """Turn messages into bytes, with a note in the journal: should the worker die now, it counts against them."""
        self._journal.rendering(batch.token, batch.lane.tenant_id, is_over=False)
        if failpoint.ARMED:
            failpoint.hit("render.begun")
        is_urgent = batch.lane.message_class == "transactional"
        outgoing: list[Outgoing] = []
        for content_id, same in by_content.items():
            composer = composers.get(content_id)
            if composer is None:
                made: Sequence[Outgoing | Unrenderable] = [Unrenderable(c.id, "its content is gone") for c in same]
            else:
                identity = use.sender.identity
                made = await composer.compose(
                    [
                        self._addresses.item(batch.lane, composer, each, identity, numbers.get(each.address, ""))
                        for each in same
                    ]
                )
            for message in made:
                if isinstance(message, Unrenderable):
                    claimed = batch.messages[message.id]
                    stand_in = Outgoing(claimed.id, claimed.address, "", b"", str(claimed.id))
                    watch.settle(stand_in, Rejected("render_failed", message.detail))
                else:
                    message.until_s = batch.messages[message.id].until_s
                    message.is_urgent = is_urgent
                    outgoing.append(message)
        self._journal.rendering(batch.token, batch.lane.tenant_id, is_over=True)
        return outgoing


def _slices(messages: Iterable[Claimed], weights: dict[UUID, int]) -> list[list[Claimed]]:
    """Messages in slices of at most 16 MiB of content; known contents are light and weigh nothing here."""
    slices: list[list[Claimed]] = [[]]
    room = _SLICE_BYTES
    for claimed in messages:
        weight = weights.get(claimed.content_id, 0)
        if slices[-1] and weight > room:
            slices.append([])
            room = _SLICE_BYTES
        slices[-1].append(claimed)
        room -= weight
    return slices
