"""Judging what came in: who was it, a person or a machine? And adding it up, once, in one transaction.

Owns the rules that need to see several requests, or the message behind them: too soon after it was sent, too many links
at once. Hits wait a few seconds for that, in the database, so that a killed process loses none and several judge
alike. One process at a time judges a tenant's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from outrider.data.db import UnitOfWork
from outrider.domain.messages import events
from outrider.domain.tracking import machines
from outrider.domain.tracking.rows import SQL

OPEN, CLICK = 1, 2
ANY = 0
"""The link of what concerns the message as a whole."""
_BURST_LINKS = 3
EVENTS = {
    (OPEN, False): "opened",
    (CLICK, False): "clicked",
    (OPEN, True): "machine_opened",
    (CLICK, True): "machine_clicked",
}


@dataclass(frozen=True, slots=True)
class Rules:
    """When what looks like a person is a machine.

    soon_s   followed or opened within so many seconds of being handed over: nobody reads that fast
    burst_s  three different links of one message within so many seconds
    """

    soon_s: float
    burst_s: float


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that came in, `n` times alike. `machine` is why it is known to be one, else empty."""

    message_id: UUID
    at: datetime
    kind: int
    link: int
    machine: str
    n: int = 1


@dataclass(frozen=True, slots=True)
class Facts:
    """The message behind a hit, and what may be noticed about it."""

    lane_id: int
    campaign_id: UUID | None
    content_id: UUID
    domain: str
    finished_at: datetime | None
    opens: bool
    clicks: bool


@dataclass(slots=True)
class Response:
    """What is added to what is known of one message: one kind, one link, people or machines."""

    message_id: UUID
    kind: int
    link: int
    is_machine: bool
    first_at: datetime
    last_at: datetime
    hits: int
    machine: str

    @property
    def key(self) -> tuple[UUID, int, int, bool]:
        """What makes it one row."""
        return self.message_id, self.kind, self.link, self.is_machine


async def fold(uow: UnitOfWork, rules: Rules, *, wait_s: float, limit: int) -> int:
    """Judge and add up a tenant's hits whose time has come.

    Takes:   a unit of work of the engine role; wait_s: how long a message's hits wait for each other.
    Gives:   how many rows were taken; 0 also when another process is at it.
    """
    raw, tenant_id = uow.raw, uow.tenant
    if not await SQL.hits_lock.value(raw, tenant_id):
        return 0
    taken = [Hit(**row) for row in await SQL.hits_take.many(raw, tenant_id, wait_s, limit)]
    if not taken:
        return 0
    ids = list({hit.message_id for hit in taken})
    facts = {row["id"]: _facts(row) for row in await SQL.hits_facts.many(raw, tenant_id, ids, min(ids), max(ids))}
    responses = judged(taken, facts, rules)
    if responses:
        new = await _keep(raw, tenant_id, responses)
        await _count(raw, tenant_id, responses, new, facts)
        await _tell(raw, tenant_id, [response for response in responses if response.key in new])
    return len(taken)


def judged(hits: Iterable[Hit], facts: dict[UUID, Facts], rules: Rules) -> list[Response]:
    """What hits add to what is known of their messages; hits of messages that are gone or left alone are dropped."""
    found: dict[tuple[UUID, int, int, bool], Response] = {}
    by_message: dict[UUID, list[Hit]] = defaultdict(list)
    for hit in hits:
        by_message[hit.message_id].append(hit)
    for message_id, of_message in sorted(by_message.items()):
        fact = facts.get(message_id)
        if fact is None:
            continue
        wanted = [hit for hit in of_message if (fact.opens if hit.kind == OPEN else fact.clicks)]
        is_burst = _is_burst(wanted, rules)
        for hit in sorted(wanted, key=lambda each: each.at):
            machine = _verdict(hit, fact, rules, is_burst=is_burst)
            for link in {ANY, hit.link}:
                _add(found, hit, link, machine)
    return list(found.values())


def _verdict(hit: Hit, fact: Facts, rules: Rules, *, is_burst: bool) -> str:
    if hit.machine:
        return hit.machine
    if fact.finished_at is None or hit.at - fact.finished_at < timedelta(seconds=rules.soon_s):
        return machines.TOO_SOON
    return machines.BURST if is_burst and hit.kind == CLICK else ""


def _is_burst(hits: Iterable[Hit], rules: Rules) -> bool:
    """Whether three different links were followed faster than anybody clicks."""
    first: dict[int, datetime] = {}
    for hit in sorted(hits, key=lambda each: each.at):
        if hit.kind == CLICK:
            first.setdefault(hit.link, hit.at)
    moments = list(first.values())
    span = timedelta(seconds=rules.burst_s)
    return any(late - early < span for early, late in zip(moments, moments[_BURST_LINKS - 1 :], strict=False))


def _add(found: dict[tuple[UUID, int, int, bool], Response], hit: Hit, link: int, machine: str) -> None:
    key = (hit.message_id, hit.kind, link, bool(machine))
    known = found.get(key)
    if known is None:
        found[key] = Response(hit.message_id, hit.kind, link, bool(machine), hit.at, hit.at, hit.n, machine)
    else:
        known.hits += hit.n
        known.last_at = max(known.last_at, hit.at)


async def _keep(
    raw: asyncpg.Connection, tenant_id: UUID, responses: Sequence[Response]
) -> set[tuple[UUID, int, int, bool]]:
    """Add to the table of responses; gives the keys of those that are the first of their kind."""
    ordered = sorted(responses, key=lambda each: each.key)
    rows = await SQL.responses_keep.many(
        raw,
        tenant_id,
        [each.message_id for each in ordered],
        [each.kind for each in ordered],
        [each.link for each in ordered],
        [each.is_machine for each in ordered],
        [each.first_at for each in ordered],
        [each.last_at for each in ordered],
        [each.hits for each in ordered],
        [each.machine for each in ordered],
    )
    return {(row["message_id"], row["kind"], row["link"], row["is_machine"]) for row in rows if row["is_first"]}


async def _count(
    raw: asyncpg.Connection,
    tenant_id: UUID,
    responses: Sequence[Response],
    new: set[tuple[UUID, int, int, bool]],
    facts: dict[UUID, Facts],
) -> None:
    """Add to the sums."""
    sums: dict[tuple[int, str, str, int, bool], list[int]] = defaultdict(lambda: [0, 0])
    for response in responses:
        fact = facts[response.message_id]
        for facet, key in _facets(response, fact):
            entry = sums[fact.lane_id, facet, key, response.kind, response.is_machine]
            entry[0] += response.hits
            entry[1] += response.key in new
    columns = [list(column) for column in zip(*((*key, *entry) for key, entry in sums.items()), strict=True)]
    await SQL.counts_add.run(raw, tenant_id, *columns)


def _facets(response: Response, fact: Facts) -> list[tuple[str, str]]:
    """Which sums a response counts in."""
    if response.link != ANY:
        return [("link", str(response.link))] if fact.campaign_id else []
    hour = response.first_at.replace(minute=0, second=0, microsecond=0).isoformat()
    if fact.campaign_id is None:
        return [("hour", hour)]
    return [("hour", hour), ("domain", fact.domain), ("content", str(fact.content_id))]


async def _tell(raw: asyncpg.Connection, tenant_id: UUID, responses: Sequence[Response]) -> None:
    """The first opening, and the first click of each link, in the story of their message."""
    links = list({each.link for each in responses if each.link != ANY})
    urls = {row["key"]: row["url"] for row in await SQL.urls_of.many(raw, tenant_id, links)} if links else {}
    told = [each for each in responses if each.kind == OPEN or each.link != ANY]
    await events.append_many(
        raw,
        tenant_id,
        [(each.message_id, each.first_at, EVENTS[each.kind, each.is_machine], _data(each, urls)) for each in told],
    )


def _data(response: Response, urls: dict[int, str]) -> dict[str, str]:
    data = {"link": str(response.link), "url": urls.get(response.link, "")} if response.link != ANY else {}
    return data | ({"machine": response.machine} if response.is_machine else {})


def _facts(row: asyncpg.Record) -> Facts:
    return Facts(
        row["lane_id"],
        row["campaign_id"],
        row["content_id"],
        row["domain"],
        row["finished_at"],
        row["is_noticed"] and row["opens"],
        row["is_noticed"] and row["clicks"],
    )
