"""Turns: which messages of a batch may go to their destinations now, and when the others' turns come.

Owns `destination_buckets` and `destination_turns`, inside the claim's transaction. What finds no token is given a turn
of its own, one after another at the rate, behind those its lane gave out before: a million messages to one domain are
held once each and come back one by one, not all at once. Lanes that wait for the same destination share its rate, and
bulk leaves what transactional messages wait for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from outrider.contracts.gate import Candidate, Hold, Lane
from outrider.data.countries import country_of
from outrider.domain.limits.rows import PACES as SQL

_TINY = 1e-6
_LATE_S = 0.5
"""So long after its turn a transactional message may still be on its way to the next claim."""
_FARTHEST_S = 7 * 86_400.0
"""No turn is given out for later: who gets none before then is asked about again at that time."""


@dataclass(slots=True)
class Door:
    """One destination with its bucket locked. Seconds are those of the database's clock.

    others    lanes that have turns to come as well
    urgent_s  up to when transactional messages of other lanes have turns
    """

    destination: str
    rate: float
    cap: float
    tokens: float
    now_s: float
    next_s: float
    others: int = 0
    urgent_s: float = 0.0

    def free(self, lane: Lane) -> int:
        """How many messages of a lane may go now."""
        there = self.tokens
        if lane.message_class == "bulk" and self.urgent_s > self.now_s - _LATE_S:
            there -= math.ceil((self.urgent_s + _LATE_S - self.now_s) * self.rate)
        return max(0, math.floor(there + _TINY))

    def turn(self) -> datetime:
        """The next turn, given out with this."""
        after_s = max(self.now_s, self.next_s) + (1 + self.others) / self.rate
        self.next_s = min(after_s, self.now_s + _FARTHEST_S)
        return datetime.fromtimestamp(self.next_s, UTC)


@dataclass(slots=True)
class Doors:
    """The locked destinations of a batch; `going`: destination by message that may go, as far as they are concerned."""

    lane: Lane
    by_name: dict[str, Door]
    going: dict[UUID, str]

    async def close(self, raw: asyncpg.Connection, gone: Sequence[Candidate]) -> None:
        """Take the tokens of those who go; what other limits kept back costs none."""
        if not self.by_name:
            return
        for candidate in gone:
            name = self.going.get(candidate.id)
            if name is not None:
                self.by_name[name].tokens -= 1
        doors = list(self.by_name.values())
        await SQL.destination_write.run(
            raw, self.lane.tenant_id, self.lane.channel, [door.destination for door in doors],
            [door.tokens for door in doors], [door.now_s for door in doors],
        )  # fmt: skip


def destination_of(channel: str, address: str) -> str:
    """Where an address belongs: its mail domain, or a number's country; empty for what has none."""
    if channel == "email":
        return address.rpartition("@")[2].lower()
    return country_of(address)


async def ask(raw: asyncpg.Connection, lane: Lane, candidates: Sequence[Candidate]) -> tuple[Doors, dict[UUID, Hold]]:
    """Say which of a batch may go by the rates of their destinations, in their order.

    Takes:   candidates that passed every gate; the claim's transaction with its lane locked, before any other bucket.
    Gives:   the doors, to be closed when it is known who goes; and the turns of the others. Three statements, whatever
             the number; two more when somebody waits or a bucket is new.
    """
    by_name: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_name.setdefault(destination_of(lane.channel, candidate.address), []).append(candidate)
    doors = Doors(lane, await _locked(raw, lane, list(by_name)), {})
    held: dict[UUID, Hold] = {}
    waiting: list[Door] = []
    for name, door in doors.by_name.items():
        free = door.free(lane)
        doors.going.update((candidate.id, name) for candidate in by_name[name][:free])
        reason = f"{name}: it takes {door.rate:g} a second, and its turn comes then"
        held.update((candidate.id, Hold(door.turn(), reason)) for candidate in by_name[name][free:])
        if len(by_name[name]) > free:
            waiting.append(door)
    if waiting:
        await SQL.destination_turns_set.run(
            raw, lane.tenant_id, lane.channel, lane.id, [door.destination for door in waiting],
            [door.next_s for door in waiting],
        )  # fmt: skip
    return doors, held


async def _locked(raw: asyncpg.Connection, lane: Lane, names: Sequence[str]) -> dict[str, Door]:
    """Those destinations that have a rate, locked, with what is in their buckets now."""
    limited = await _limited(raw, lane, names)
    doors: dict[str, Door] = {}
    while limited:
        new = [name for name, has_bucket in limited.items() if not has_bucket]
        if new:  # before any is locked, or two claims could wait for each other
            await SQL.destination_open.run(raw, lane.tenant_id, lane.channel, new)
        rows = await SQL.destination_lock.many(raw, lane.tenant_id, lane.channel, list(limited), lane.id)
        doors |= {row["destination"]: _door(row) for row in rows}
        gone = [name for name in limited if name not in doors]
        limited = await _limited(raw, lane, gone) if gone else {}  # purged meanwhile, unless its rate was taken away
    return doors


async def _limited(raw: asyncpg.Connection, lane: Lane, names: Sequence[str]) -> Mapping[str, bool]:
    """Those of some destinations that have a rate, and whether their bucket is there."""
    rows = await SQL.destination_limited.many(raw, lane.tenant_id, lane.channel, names)
    return {row["destination"]: row["has_bucket"] for row in rows}


def _door(row: asyncpg.Record) -> Door:
    # another claim may have written a later moment while this one waited for its lock: nothing flows back in then
    now_s = max(row["now_s"], row["at_s"])
    tokens = min(row["cap"], row["tokens"] + row["rate"] * (now_s - row["at_s"]))
    return Door(
        row["destination"], row["rate"], row["cap"], tokens, now_s, row["next_s"], row["others"], row["urgent_s"]
    )
