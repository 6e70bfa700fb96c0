"""The loop that repeats requests whose answer was lost, at providers that know them again by their key.

What the provider had taken it answers as it did, and delivers nothing again; what never reached it goes now. So a
request is only repeated as a whole, in its order, and only while every message of it may still be sent: none was
settled otherwise, stopped, or written to the do-not-contact list. What cannot be repeated is left to reports, to a look
at the provider's list, and to people. Owns the order of these questions; the requests are the providers'.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from outrider.base import failpoint
from outrider.base.clock import boottime_s, utc_now
from outrider.base.errors import Misconfigured, Refused, Unavailable
from outrider.contracts.gate import Gate, Lane
from outrider.contracts.outcome import Accepted, Outcome, Rejected, Uncertain
from outrider.contracts.provider import Outgoing, Repeats
from outrider.data.db import Database, Role
from outrider.data.runtime import Runtime
from outrider.domain.limits import charges, contacted
from outrider.domain.messages import events, reports
from outrider.domain.messages.reports import Reported
from outrider.domain.messages.rows import KEYED
from outrider.engine.dispatch.again import claimed_of, made_again
from outrider.engine.dispatch.batch import ASK_AGAIN_S, LONGEST_UNASKED_S, Batch, Claimed
from outrider.engine.dispatch.board import Board
from outrider.engine.dispatch.claim import Claimer
from outrider.engine.dispatch.senders import Senders

_log = structlog.get_logger(__name__)
EVERY_S: Final = 5.0
_AT_ONCE: Final = 4
_TENANTS_AT_ONCE: Final = 4
_ROUND_S: Final = 20.0
_TAKEN_S: Final = 60.0
_BEGIN_S: Final = 20.0
"""By then its bytes must have begun to leave: only while it is taken nobody sends its messages otherwise."""
_FIRST_S: Final = 5.0
_LONGEST_S: Final = 600.0
_WHO: Final = "repetition"
_TAKEN_STATES: Final = frozenset({"sent", "delivered", "bounced"})


@dataclass(slots=True)
class _Doubts:
    """Whether a request may still leave: why not, and by which moment's knowledge."""

    asked_s: float
    why: str = ""


class Repeater:
    """Repeats requests, tenant by tenant; any worker may, a request is taken by one."""

    def __init__(self, runtime: Runtime, database: Database, board: Board) -> None:
        self._runtime = runtime
        self._board = board
        self._claimer = Claimer(database, runtime.gates, lease_s=runtime.settings.lease_s)
        self._gates: Sequence[Gate] = [gate for gate in runtime.gates if gate.is_asked_again and gate.facts]

    async def step(self) -> bool:
        """One round: a few requests of each tenant that has some due; a provider that hangs holds up no other."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            rows = await KEYED.tenants_due.many(uow.raw)
        tenants = [row["tenant_id"] for row in rows]
        random.shuffle(tenants)  # those a round has no time for are not the same each time
        room = asyncio.Semaphore(_TENANTS_AT_ONCE)
        try:
            async with asyncio.timeout(_ROUND_S):
                await asyncio.gather(*(self._tenant(tenant_id, room) for tenant_id in tenants))
        except TimeoutError:
            _log.warning("repetition_waits", tenants=len(tenants), why="no answer in time")
        return False

    async def _tenant(self, tenant_id: UUID, room: asyncio.Semaphore) -> None:
        """A few requests of one tenant."""
        async with room:
            taken_s = boottime_s()
            try:
                async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
                    taken = await KEYED.take_due.many(uow.raw, tenant_id, _AT_ONCE, _TAKEN_S)
            except Unavailable as error:
                _log.warning("repetition_waits", tenant=str(tenant_id), code=error.code)
                return
            await asyncio.gather(*(self._one(tenant_id, each["key"], taken_s) for each in taken))

    async def _one(self, tenant_id: UUID, key: str, taken_s: float) -> None:
        """One request; nothing about it keeps others from their turn."""
        try:
            await self._repeated(tenant_id, key, taken_s)
        except (Unavailable, Refused, Misconfigured) as error:
            _log.warning("repetition_waits", tenant=str(tenant_id), key=key, code=error.code)
        except Exception:  # noqa: BLE001 - a plugin's bug must not keep the other requests in doubt
            _log.exception("repetition_failed", tenant=str(tenant_id), key=key)

    async def _repeated(self, tenant_id: UUID, key: str, taken_s: float) -> None:
        async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            members = await KEYED.members.many(uow.raw, tenant_id, key)
        doubtful = [row for row in members if row["is_uncertain"]]
        if not doubtful or any(row["state"] == "queued" for row in members):
            await self._later(tenant_id, key, members)  # its other messages are not recorded yet
            return
        lane = _lane_of(tenant_id, doubtful[0])
        claimed = [claimed_of(row, row["message_id"]) for row in members]
        why = _broken(members) or await self._withheld(lane, members, claimed)
        if why:
            await self._end(tenant_id, key, why)
            return
        if self._board.why_stopped(lane) is not None:
            await self._later(tenant_id, key, members)
            return
        outcomes = await self._asked(lane, key, members, claimed, taken_s)
        if outcomes is None:
            await self._later(tenant_id, key, members)
            return
        if failpoint.ARMED:
            failpoint.hit("repeat.answered")
        await self._settle(tenant_id, key, members, outcomes)

    async def _withheld(self, lane: Lane, members: Sequence[asyncpg.Record], claimed: Sequence[Claimed]) -> str:
        """Why a message must not go any more; empty when all may, or when the provider had taken them already."""
        if any(row["provider_id"] is not None and row["state"] in _TAKEN_STATES for row in members):
            return ""
        if any(row["is_over"] for row in members):
            return "the time of a message is over"
        if any(row["is_withdrawn"] for row in members):
            return "the campaign of a message was cancelled"
        now_s = boottime_s()
        messages = {each.id: each for each in claimed}
        batch = Batch(
            lane=lane, token=0, lease_until_s=now_s, claimed_s=now_s, claimed_at=utc_now(), messages=messages,
            unsettled=set(messages),
        )  # fmt: skip
        async with self._runtime.db.uow(Role.ENGINE, lane.tenant_id) as uow:
            stopped = await self._claimer.withdrawn(uow.raw, batch, self._gates)
        return f"a gate stops a message of it: {next(iter(stopped.values()))}" if stopped else ""

    async def _asked(
        self, lane: Lane, key: str, members: Sequence[asyncpg.Record], claimed: Sequence[Claimed], taken_s: float
    ) -> list[Outcome] | None:
        """Make the request again; None when it cannot be made now."""
        senders = Senders(self._runtime, is_sending=False)
        try:
            made, use = await made_again(self._runtime, senders, lane, claimed)
            messages: list[Outgoing] = [made[each.id] for each in claimed if each.id in made]
            wanted = members[0]["connection_id"]
            transport: object = next((r.account.transport for r in use.routes if r.connection_id == wanted), None)
            if len(messages) < len(members) or not isinstance(transport, Repeats):
                return None
            async with self._asking_again(lane, key, claimed) as doubts:

                def leave() -> str | None:
                    now_s = boottime_s()
                    if now_s > taken_s + _BEGIN_S:
                        return "it was taken too long ago"
                    if now_s > doubts.asked_s + LONGEST_UNASKED_S:
                        return "do-not-contact could not be asked again"
                    return doubts.why or self._board.why_stopped(lane)

                return await transport.repeat(key, messages, leave)
        finally:
            await senders.close_idle(everything=True)

    @asynccontextmanager
    async def _asking_again(self, lane: Lane, key: str, claimed: Sequence[Claimed]) -> AsyncIterator[_Doubts]:
        """Ask again and again whether it may go, while it waits for its connection and its turn: a stop is a stop."""
        doubts = _Doubts(asked_s=-LONGEST_UNASKED_S)

        async def ask() -> None:
            asked_s = boottime_s()
            async with self._runtime.db.uow(Role.ENGINE, lane.tenant_id) as uow:
                members = await KEYED.members.many(uow.raw, lane.tenant_id, key)
            doubts.why = _broken(members) or await self._withheld(lane, members, claimed)
            doubts.asked_s = asked_s

        async def keep_asking() -> None:
            while not doubts.why:
                await asyncio.sleep(ASK_AGAIN_S)
                with suppress(Unavailable):  # unasked for too long it does not leave
                    await ask()

        await ask()
        asking = asyncio.create_task(keep_asking())
        try:
            yield doubts
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _settle(
        self, tenant_id: UUID, key: str, members: Sequence[asyncpg.Record], outcomes: Sequence[Outcome]
    ) -> None:
        """Record what is known now; a request of which something is not is repeated, unless its key is another's."""
        told: list[Reported] = []
        for row, outcome in zip(members, outcomes, strict=True):
            match outcome:
                case Accepted(provider_id, _):
                    told.append(Reported(row["message_id"], "sent", provider_id or ""))
                case Rejected(cause, detail):
                    told.append(Reported(row["message_id"], "failed", "", cause, detail))
        news: list[Reported] = []
        if told:
            async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
                found = await reports.settle(uow.raw, tenant_id, told)
                news = [each for each in told if each.message_id in found and found[each.message_id]["is_moved"]]
                for each in news:
                    await events.append(uow.raw, tenant_id, each.message_id, each.state, {"marked_by": _WHO})
                failed = [each.message_id for each in news if each.state == "failed"]
                if failed:
                    await charges.release_all(uow.raw, tenant_id, failed)
                    await contacted.release_all(uow.raw, tenant_id, failed)
        unknown = [outcome for outcome in outcomes if isinstance(outcome, Uncertain)]
        if any(outcome.cause != "answer_lost" for outcome in unknown):
            await self._end(tenant_id, key, unknown[0].detail)
        elif unknown:
            await self._later(tenant_id, key, members)
        _log.info("repeated", tenant=str(tenant_id), key=key, settled=len(news), unknown=len(unknown))

    async def _later(self, tenant_id: UUID, key: str, members: Sequence[asyncpg.Record]) -> None:
        tries = members[0]["tries"] if members else 1
        after_s = min(_LONGEST_S, _FIRST_S * 2.0 ** min(tries - 1, 10))
        async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            await KEYED.later.run(uow.raw, tenant_id, key, after_s)

    async def _end(self, tenant_id: UUID, key: str, why: str) -> None:
        """It is not repeated any more."""
        async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            await KEYED.end.run(uow.raw, tenant_id, key)
        _log.warning("repetition_ends", tenant=str(tenant_id), key=key, why=why)


def _broken(members: Sequence[asyncpg.Record]) -> str:
    """Why a request is no longer what it was; empty: it is."""
    if not members or [row["place"] for row in members] != list(range(members[0]["places"])):
        return "a message of it was sent otherwise since"
    if members[0]["is_changed"]:
        return "its connection was changed since"
    taken = any(row["provider_id"] is not None and row["state"] in _TAKEN_STATES for row in members)
    if not taken and not all(row["is_uncertain"] for row in members):
        return "a message of it was settled otherwise since"
    return ""


def _lane_of(tenant_id: UUID, row: asyncpg.Record) -> Lane:
    return Lane(tenant_id, row["lane_id"], row["channel"], row["sender_id"], row["campaign_id"], row["message_class"])
