"""Paces at the claim: what rates of destinations and warm-ups let go, and what shared buckets grant.

Owns the order in which they are asked, which is the order of their locks: destinations by name, the sender's warm-up,
then the buckets of the campaign, the sender, its connection and the tenant. What a destination or a warm-up does not
let go is held until its turn or day; what a bucket does not grant stays ready, and its lane rests until there is some.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import asyncpg

from outrider.contracts.gate import Candidate, Lane, Verdict
from outrider.data.db import Database
from outrider.domain.limits import allowances, destinations, turns
from outrider.domain.limits import rows as buckets
from outrider.engine.dispatch.batch import Batch
from outrider.engine.dispatch.routes import Ask, Grant, Route
from outrider.engine.dispatch.terms import Terms

STOPPED_S = 0.25
"""How long a lane rests that may not send now."""
LONGEST_REST_S = 1.0
"""So soon a lane is asked again that met the rate of its buckets: one that was raised or lifted is noticed by then."""
_SPREAD = {"transactional": 0.1, "bulk": 0.25}
"""By up to so much of it a rest is longer, by luck: of lanes that share a rate none is always the first to ask for what
has come together, and transactional ones mostly are."""
Taken = tuple[str, UUID, int]
"""What a shared limit granted: its scope, whose, how many."""


@dataclass(slots=True)
class Paces:
    """What is held by the paces of single messages, and what is to be counted once it is known who goes."""

    held: dict[UUID, tuple[str, Verdict]] = field(default_factory=dict)
    doors: turns.Doors | None = None
    quota: allowances.Quota | None = None

    def begin_by_s(self, now: datetime, now_s: float) -> float | None:
        """By which CLOCK_BOOTTIME second what is counted must have begun; None: whenever."""
        return None if self.quota is None else now_s + (self.quota.ends_at - now).total_seconds()

    async def close(self, raw: asyncpg.Connection, token: int, going: Sequence[Candidate]) -> None:
        """Count who goes."""
        if self.doors is not None:
            await self.doors.close(raw, going)
        if self.quota is not None:
            await self.quota.close(raw, token, going)


async def ask(raw: asyncpg.Connection, lane: Lane, terms: Terms, passed: Sequence[Candidate]) -> Paces:
    """Ask the paces that tell messages of a lane apart.

    Takes:   candidates that passed every gate, in order.
    """
    paces = Paces()
    if "destination" in terms.paced and passed:
        paces.doors, held = await turns.ask(raw, lane, passed)
        paces.held |= {message_id: (destinations.GATE, hold) for message_id, hold in held.items()}
        passed = [candidate for candidate in passed if candidate.id not in held]
    if "warm_up" in terms.paced and passed:
        paces.quota, held = await allowances.ask(raw, lane, terms.zone, passed)
        paces.held |= {message_id: (allowances.GATE, hold) for message_id, hold in held.items()}
    return paces


async def reserve(raw: asyncpg.Connection, lane: Lane, asked: int, terms: Terms) -> tuple[int, list[Taken]]:
    """Take from the shared buckets, campaign first, tenant last; what a narrower one grants too much goes back."""
    scopes = (
        ("campaign", lane.campaign_id),
        ("sender", lane.sender_id),
        ("connection", terms.connection_id),
        ("tenant", lane.tenant_id),
    )
    granted = asked
    taken: list[Taken] = []
    for scope, scope_id in scopes:
        if scope_id is None or scope not in terms.paced:
            continue
        if not granted:
            break
        given = await buckets.take(raw, lane.tenant_id, scope, scope_id, granted)
        if given is not None:
            taken.append((scope, scope_id, given))
            granted = given
    await give_back(raw, lane, taken, granted)
    return granted, [(scope, scope_id, granted) for scope, scope_id, _ in taken]


async def give_back(raw: asyncpg.Connection, lane: Lane, taken: Sequence[Taken], used: int) -> None:
    """Give back what buckets granted beyond what is used."""
    for scope, scope_id, given in taken:
        if given > used:
            await buckets.give_back(raw, lane.tenant_id, scope, scope_id, given - used)


class Throttled:
    """The lanes that have just met the rate of their buckets, for one worker.

    Limits are asked late, after the pick and the gates; of these lanes alone it is asked first what may go, so that
    hundreds of messages are not read and judged to send one or none. They rest until a slice has come together.
    """

    def __init__(self) -> None:
        self._lane_ids: set[int] = set()
        self._asking: set[int] = set()

    @contextmanager
    def alone(self, lane: Lane) -> Iterator[bool]:
        """Hold a lane that has met its rate while it is asked; False when another claim of this worker asks it.

        The other takes what has come together: one that waited for it would find next to nothing.
        """
        if lane.id not in self._lane_ids:
            yield True
        elif lane.id in self._asking:
            yield False
        else:
            self._asking.add(lane.id)
            try:
                yield True
            finally:
                self._asking.discard(lane.id)

    async def ask(self, raw: asyncpg.Connection, lane: Lane, terms: Terms, asked: int) -> tuple[int, float]:
        """How many of `asked` may be picked, and how long the lane may rest when it is none."""
        if lane.id not in self._lane_ids:
            return asked, 0.0
        room = await _room(raw, lane, terms, asked)
        return (asked, 0.0) if room is None else (min(asked, max(room[0], 0)), room[1])

    async def note(self, raw: asyncpg.Connection, lane: Lane, terms: Terms, asked: int, *, is_met: bool) -> float:
        """Whether a lane has met its rate, once what it got is taken; gives how long it may rest.

        One that is empty, or of which gates stopped something, has not: the next claim asks its limits late again.
        """
        if not is_met:
            self._lane_ids.discard(lane.id)
            return 0.0
        self._lane_ids.add(lane.id)
        room = await _room(raw, lane, terms, asked)
        return 0.0 if room is None else room[1]


async def _room(raw: asyncpg.Connection, lane: Lane, terms: Terms, asked: int) -> tuple[int, float] | None:
    """What the buckets of a lane let go now, and how long to leave it alone until they let go a slice."""
    connection_id = terms.connection_id if "connection" in terms.paced else None
    room = await buckets.room(
        raw, lane.tenant_id, lane.campaign_id, lane.sender_id, connection_id, slice_s=STOPPED_S, most=asked
    )
    if room is None:
        return None
    spread = _SPREAD[lane.message_class]
    wait_s = min(max(room[1], 0.0), LONGEST_REST_S / (1 + spread))
    return room[0], wait_s * random.uniform(1, 1 + spread)  # noqa: S311 - luck, no secret


async def of_campaign(raw: asyncpg.Connection, lane: Lane, asked: int) -> int | None:
    """How many the campaign's own pace would let go now; None without one.

    Asked before the pick, so that a slow campaign costs next to nothing, and taken after it like every limit.
    Nothing is let go until a quarter of a second's worth has come together: few claims of some, never many of one.
    """
    if lane.campaign_id is None or asked < 1:
        return None
    found = await buckets.look(raw, lane.tenant_id, "campaign", lane.campaign_id)
    if found is None:
        return None
    there, rate_per_s = found
    return there if there >= min(asked, max(1.0, rate_per_s * STOPPED_S)) else 0


def of_others(database: Database, batch: Batch, told: Callable[[Grant], None]) -> Ask:
    """Ask the rates of connections that were not asked at the claim; without a database nothing goes by them.

    Takes:   told: called with what one let go, when that is less than it was asked for.
    """

    async def ask_route(route: Route, count: int) -> Grant:
        if route.connection_id == batch.connection_id:
            return Grant(count)
        async with database.transaction() as raw:
            grant = await by_connection(raw, batch.lane.tenant_id, route.connection_id, count)
        if grant.count < count:
            told(grant)
        return grant

    return ask_route


async def by_connection(raw: asyncpg.Connection, tenant_id: UUID, connection_id: UUID, asked: int) -> Grant:
    """Take from the bucket of a connection that takes over; one that has none lets everything go."""
    given = await buckets.take(raw, tenant_id, "connection", connection_id, asked)
    if given is None or given == asked:
        return Grant(asked)
    found = await buckets.look(raw, tenant_id, "connection", connection_id)
    return Grant(asked) if found is None else Grant(given, found[1])
