"""A dispatcher in one process for tests: a database, tenants with senders, a channel and a provider made of glass.

API
    posts(url, folder, **settings) -> async context manager of Post    pools, runtime, the glass provider and channel
        .desk(...) -> Desk                     a new tenant with a connection, a sender and a content
        .working(...) -> async context manager of Worker    a whole worker on this event loop, stopped at the end
        .fetch / .execute                      SQL as the engine's role
    Desk.admit(...) -> list[UUID]              messages, accepted as the API does
    Desk.claim(...) -> Claim                   one claim, under a token of its own (`Claim.batch.token`)
    Desk.states(ids) -> list[str]              the words of the view, in the order of the ids
    Desk.events(id) -> list[str]               kinds, oldest first
    GlassProvider                              answers as its script says, remembers what it took
    lanes_of(database, tenant) -> list[Lane]   a tenant's lanes with something ready
    GATES                                      the gates that come with Outrider, in their order
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from outrider.base.fields import Field
from outrider.base.registry import discover
from outrider.contracts.channel import Composer, Content, Identity, Item, Link, Renderer, Unrenderable
from outrider.contracts.gate import Gate, Lane, MessageClass
from outrider.contracts.outcome import Accepted, Outcome, Unsent
from outrider.contracts.provider import Egress, Outgoing, Stage, Transport, Watch
from outrider.data.db import Database, Role
from outrider.data.runtime import Runtime
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from outrider.domain.messages.lanes import directory, lane_for
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch import batch, repeats
from outrider.engine.dispatch.claim import Claim, Claimer
from outrider.engine.dispatch.run import Worker, WorkerOptions
from outrider.engine.loop import Loop
from tests.kit.api import runtime_for
from tests.kit.audience import PlainEmail

GATES: tuple[Gate, ...] = tuple(
    sorted(discover("outrider.plugins.gates", "GATE").values(), key=lambda gate: (gate.order, gate.key))
)
BOUND_S = 120.0
Answer = Callable[[Outgoing], Outcome | None]
Send = Callable[["GlassProvider", Sequence[Outgoing], Watch], Awaitable[None]]


async def send_soundly(provider: GlassProvider, batch: Sequence[Outgoing], watch: Watch) -> None:
    """What a sound provider does: ask, take, settle, one after another."""
    for message in batch:
        reason = watch.begin(message)
        if reason is not None:
            provider.withheld.append((message, reason))
            watch.settle(message, Unsent(reason))
            continue
        outcome = provider.answer(message)
        if isinstance(outcome, Accepted):
            provider.taken.append(message)
        if outcome is not None:
            watch.settle(message, outcome)
        await asyncio.sleep(0)


@dataclass
class GlassProvider:
    """`answer` decides each message (None: it is forgotten); `send` replaces the whole way of sending."""

    answer: Answer = lambda _message: Accepted()
    send: Send = send_soundly
    taken: list[Outgoing] = field(default_factory=list)
    withheld: list[tuple[Outgoing, str]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    line_count: int = 1
    opened: int = 0
    closed: int = 0
    key: str = "glass"
    channel: str = "email"
    help: str = "A provider one can look into"
    fields: tuple[Field, ...] = ()

    def open(self, settings: Mapping[str, Any], secrets: Mapping[str, str], egress: Egress) -> Transport:
        del settings, secrets, egress
        self.opened += 1
        return _GlassTransport(self)

    async def examine(
        self, settings: Mapping[str, Any], secrets: Mapping[str, str], egress: Egress
    ) -> AsyncIterator[Stage]:
        del settings, secrets, egress
        yield Stage("glass", is_ok=True, detail="nothing to break")

    def addresses(self) -> list[str]:
        """Whom it was told to write to, in order."""
        return [message.address for message in self.taken]


@dataclass
class _GlassTransport:
    provider: GlassProvider

    @property
    def line_count(self) -> int:
        return self.provider.line_count

    async def send(self, batch: Sequence[Outgoing], watch: Watch) -> None:
        self.provider.batches.append(len(batch))
        await self.provider.send(self.provider, batch, watch)

    async def close(self) -> None:
        self.provider.closed += 1


Compose = Callable[[Item], Outgoing | Unrenderable]


def plain_bytes(item: Item) -> Outgoing:
    """Bytes that show everything they were made of."""
    body = f"{item.address}|{item.variables}|{item.dated_at.isoformat()}|{item.unsubscribe_url}\r\n"
    return Outgoing(item.id, item.address, "bounce@sender.example", body.encode(), f"outrider-{item.id}")


class GlassChannel(PlainEmail):
    """Email whose bytes show what they were made of; `compose` replaces the making of one message."""

    def __init__(self) -> None:
        super().__init__()
        self.compose: Compose = plain_bytes
        self.composer_count = 0

    def composer(self, content: Content, identity: Identity, renderer: Renderer) -> Composer:
        del content, identity, renderer
        self.composer_count += 1
        return _GlassComposer(self)


@dataclass
class _GlassComposer:
    channel: GlassChannel
    links: Sequence[Link] = ()
    has_pixel: bool = False
    has_web_version: bool = False
    has_preferences: bool = False
    has_preferences_footer: bool = False

    async def page(self, item: Item) -> str | Unrenderable:
        return f"<p>{item.address}</p>"

    async def compose(self, items: Sequence[Item]) -> list[Outgoing | Unrenderable]:
        return [self.channel.compose(item) for item in items]


@dataclass
class Post:
    """One database with everything a worker needs."""

    runtime: Runtime
    engine: Database
    provider: GlassProvider
    channel: GlassChannel

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        async with self.engine.transaction() as raw:
            rows: list[asyncpg.Record] = await raw.fetch(sql, *args)
            return rows

    async def value(self, sql: str, *args: Any) -> Any:
        return (await self.fetch(sql, *args))[0][0]

    async def execute(self, sql: str, *args: Any) -> None:
        async with self.engine.transaction() as raw:
            await raw.execute(sql, *args)

    async def token(self) -> int:
        """A lease token that nobody else has."""
        async with self.engine.transaction() as raw:
            return int(await SQL.token_block.value(raw))

    async def desk(self, **guarantees: str) -> Desk:
        """A new tenant; `transactional_guarantee` and `bulk_guarantee` may be given."""
        name = f"tenant {uuid4()}"
        tenant_id: UUID = await self.value("INSERT INTO tenants (name) VALUES ($1) RETURNING id", name)
        connection_id: UUID = await self.value(
            "INSERT INTO connections (tenant_id, name, provider) VALUES ($1, 'c', 'glass') RETURNING id", tenant_id
        )
        desk = Desk(self, tenant_id, connection_id, tenant_id, tenant_id)
        desk.sender_id = await desk.sender("s", **guarantees)
        desk.content_id = await self.value(
            "INSERT INTO contents (tenant_id, channel, hash, is_template, subject, text) "
            "VALUES ($1, 'email', '\\x00', false, 'hello', 'hello') RETURNING id",
            tenant_id,
        )
        return desk

    async def reset(self) -> None:
        """Take every message away, as if none had ever been accepted."""
        for table in (
            "queue", "messages", "message_events", "rollups", "rollup_deltas", "uncertain_messages",
            "campaign_recipients", "lanes", "suppressions", "open_counts",
        ):  # fmt: skip
            await self.execute(f"DELETE FROM {table}")

    @asynccontextmanager
    async def working(
        self, loops: Sequence[Loop] = (), *, longest_unasked_s: float = 60.0, **changes: Any
    ) -> AsyncIterator[Worker]:
        """A worker on this event loop; told to stop and waited for at the end.

        It shares its process with the test: one that stands still for a second would hand everything back, unsent,
        because its gates could not be asked again. Tests which are about that say `longest_unasked_s`.
        """
        settings = self.runtime.settings.model_copy(update=changes)
        runtime = replace(self.runtime, settings=settings)
        database = Database(runtime.database_url, pool_size=6, wait_s=10, role=Role.ENGINE, name="outrider-test-worker")
        worker = Worker(runtime, WorkerOptions(health_port=None), database, loops)
        stop, is_ready = asyncio.Event(), asyncio.Event()
        patches = pytest.MonkeyPatch()
        for module in (batch, repeats):
            patches.setattr(module, "LONGEST_UNASKED_S", longest_unasked_s)
        running = asyncio.create_task(worker.run(stop, lambda _url: is_ready.set()))
        try:
            ready = asyncio.create_task(is_ready.wait())
            async with asyncio.timeout(BOUND_S):
                await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                ready.cancel()
                await running
            yield worker
        finally:
            stop.set()
            try:
                async with asyncio.timeout(BOUND_S):
                    await running
            finally:
                patches.undo()
                await database.close()


@dataclass
class Desk:
    """One tenant with one sender."""

    post: Post
    tenant_id: UUID
    connection_id: UUID
    sender_id: UUID
    content_id: UUID

    def engine(self) -> Any:
        """A unit of work as the engine."""
        return self.post.runtime.db.uow(Role.ENGINE, self.tenant_id)

    async def sender(self, name: str, **guarantees: str) -> UUID:
        made: UUID = await self.post.value(
            "INSERT INTO senders (tenant_id, name, channel, connection_id, from_address, transactional_guarantee,"
            " bulk_guarantee) VALUES ($1, $2, 'email', $3, 'news@sender.example', $4, $5) RETURNING id",
            self.tenant_id,
            name,
            self.connection_id,
            guarantees.get("transactional_guarantee", "at_least_once"),
            guarantees.get("bulk_guarantee", "at_most_once"),
        )
        return made

    async def admit(
        self,
        count: int = 1,
        *,
        message_class: MessageClass = "transactional",
        sender_id: UUID | None = None,
        priority: int = 5,
        purpose: str = "transactional",
        address: str = "p{}@example.org",
        **more: Any,
    ) -> list[UUID]:
        """Accept messages; `more` goes into each NewMessage."""
        key = LaneKey("email", sender_id or self.sender_id, message_class, purpose, priority)
        messages = [NewMessage(address.format(n), self.content_id, **more) for n in range(count)]
        async with self.engine() as uow:
            return await admit(uow, self.tenant_id, key, messages)

    async def lane(
        self,
        message_class: MessageClass = "transactional",
        *,
        sender_id: UUID | None = None,
        campaign_id: UUID | None = None,
    ) -> Lane:
        """The lane of a class, made when it is not there."""
        sender = sender_id or self.sender_id
        async with self.engine() as uow:
            lane_id = await lane_for(
                uow, tenant_id=self.tenant_id, channel="email", sender_id=sender, campaign_id=campaign_id,
                message_class=message_class,
            )  # fmt: skip
        return Lane(self.tenant_id, lane_id, "email", sender, campaign_id, message_class)

    async def claim(
        self,
        limit: int = 1000,
        *,
        gates: Sequence[Gate] = GATES,
        lease_s: float = 60.0,
        lane: Lane | None = None,
        claimer: Claimer | None = None,
        token: int | None = None,
    ) -> Claim:
        """One claim of the transactional lane, or of the one given."""
        lane = lane or await self.lane()
        claimer = claimer or Claimer(self.post.engine, gates, lease_s=lease_s)
        return await claimer.claim(lane, token or await self.post.token(), limit=limit)

    async def states(self, ids: Sequence[UUID]) -> list[str]:
        rows = await self.post.fetch(
            "SELECT id, state FROM message_states WHERE tenant_id = $1 AND id = ANY($2)", self.tenant_id, list(ids)
        )
        found = {row["id"]: row["state"] for row in rows}
        return [found[each] for each in ids]

    async def message(self, message_id: UUID) -> dict[str, Any]:
        """One message as the view shows it."""
        rows = await self.post.fetch(
            "SELECT * FROM message_states WHERE tenant_id = $1 AND id = $2", self.tenant_id, message_id
        )
        return dict(rows[0])

    async def queued(self, message_id: UUID) -> dict[str, Any] | None:
        """One message's row of the queue."""
        rows = await self.post.fetch(
            "SELECT * FROM queue WHERE tenant_id = $1 AND message_id = $2", self.tenant_id, message_id
        )
        return dict(rows[0]) if rows else None

    async def events(self, message_id: UUID) -> list[str]:
        rows = await self.post.fetch(
            "SELECT kind FROM message_events WHERE tenant_id = $1 AND message_id = $2 ORDER BY at",
            self.tenant_id, message_id,
        )  # fmt: skip
        return [row["kind"] for row in rows]

    async def until(self, ids: Sequence[UUID], *states: str) -> None:
        """Wait until every message is in one of the states."""
        await until(partial(self._are_in, ids, states))

    async def _are_in(self, ids: Sequence[UUID], states: Sequence[str]) -> bool:
        return set(await self.states(ids)) <= set(states)

    async def suppress(self, address: str, *, scope: str = "all", tenant_id: UUID | None = None) -> None:
        """Put an address on the do-not-contact list."""
        await self.post.execute(
            "INSERT INTO suppressions (tenant_id, channel, address_hash, address, scope, reason, source, created_by)"
            " VALUES ($1, 'email', sha256(convert_to($2, 'UTF8')), $2, $3, 'manual', 'test', 'test')",
            tenant_id or self.tenant_id, address, scope,
        )  # fmt: skip

    async def pause(self, scope: str, scope_id: str, tenant_id: UUID | None = None) -> None:
        """A switch, with its epoch, as the kill switch writes it."""
        await self.post.execute(
            "INSERT INTO switches (tenant_id, scope, scope_id, reason, actor) VALUES ($1, $2, $3, 'test', 'test')",
            tenant_id or self.tenant_id, scope, scope_id,
        )  # fmt: skip
        await self.post.execute("UPDATE installation SET switch_epoch = switch_epoch + 1")

    async def resume(self) -> None:
        """Nothing of this tenant is paused any more."""
        await self.post.execute("DELETE FROM switches WHERE tenant_id = $1", self.tenant_id)
        await self.post.execute("UPDATE installation SET switch_epoch = switch_epoch + 1")


@asynccontextmanager
async def posts(url: str, folder: Path, **settings: Any) -> AsyncIterator[Post]:
    """Open the pools on a migrated database; journals go below `folder`."""
    provider, channel = GlassProvider(), GlassChannel()
    quick = {
        "poll_s": 0.05, "sweep_s": 0.2, "heartbeat_s": 0.2, "retry_first_s": 0.05, "retry_most_s": 0.05,
        "switch_poll_s": 0.1, "flush_s": 0.01, "grace_s": 5.0, "lease_s": 30.0,
    }  # fmt: skip
    made = runtime_for(url, gates=GATES, data_dir=folder, **{**quick, **settings})
    runtime = replace(made, providers={"glass": provider}, channels={"email": channel})
    engine = Database(url, pool_size=8, wait_s=30, role=Role.ENGINE, name="outrider-test-engine")
    try:
        yield Post(runtime, engine, provider, channel)
    finally:
        await engine.close()
        await runtime.db.close()


async def lanes_of(database: Database, tenant_id: UUID) -> list[Lane]:
    """A tenant's lanes with something ready."""
    async with database.transaction() as raw:
        return [lane for lane in await directory(raw) if lane.tenant_id == tenant_id]


async def until(is_so: Callable[[], Awaitable[bool]], *, bound_s: float = BOUND_S) -> None:
    """Ask until it is so; the bound ends the test."""
    async with asyncio.timeout(bound_s):
        while not await is_so():  # noqa: ASYNC110 - what is waited for is in a database, which sets no event
            await asyncio.sleep(0.01)
