"""Validation: what must always be true of messages, checked against the database alone [faults.md 2.0].

Owns the invariants I2, I5 (suppression), I7, I8, I9, I11, partitions and lanes. I1, I3 and I4 need the client's and the
providers' ledgers: the drills check them. Never changes anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from outrider.domain.messages.rows import CHECKS
from outrider.domain.messages.states import END_STATES, QUEUE_WORDS

MOST = 100
"""Findings of one statement at most: enough to see what is wrong, bounded however much is."""
_OPEN = "queued"
_SLACK_S = 10.0
_LONGEST_SWEEP_S = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach. `ids` are messages, for I8 lanes (`lane 7`); `invariant` is I2 … I11, `partitions` or `lanes`."""

    invariant: str
    tenant_id: UUID
    ids: list[str]
    detail: str


@dataclass(frozen=True, slots=True)
class _Check:
    """One statement and what it asks beside its limit."""

    invariant: str
    ask: Callable[..., Awaitable[list[asyncpg.Record]]]
    more: tuple[object, ...] = ()


async def validate(raw: asyncpg.Connection, *, sweep_s: float = _LONGEST_SWEEP_S) -> AsyncIterator[Finding]:
    """Check every invariant in turn; findings come as they are found.

    Takes:   raw      the raw connection of a unit of work of the engine role without tenant
             sweep_s  how often workers sweep (the setting); leases ended longer ago than that and a bit are reported
    Gives:   nothing when all is well; at most 100 findings per statement. Reads everything once or twice: seconds per
             million messages, memory independent of their number. A working installation may be checked.
    Source:  validate.sql; faults.md 2.0
    """
    await CHECKS.unhurried.run(raw)
    for check in _checks(sweep_s):
        found: dict[tuple[UUID, str], list[str]] = {}
        for row in await check.ask(raw, MOST, *check.more):
            found.setdefault((row["tenant_id"], row["detail"]), []).extend(row["ids"])
        for (tenant_id, detail), ids in found.items():
            yield Finding(check.invariant, tenant_id, ids, detail)


def _checks(sweep_s: float) -> tuple[_Check, ...]:
    ends = list(END_STATES)
    return (
        _Check("I2", CHECKS.open_without_queue.many),
        _Check("I2", CHECKS.queue_without_open.many),
        _Check("I2", CHECKS.held_without_reason.many),
        _Check("I2", CHECKS.unknown_states.many, ([*ends, _OPEN], list(QUEUE_WORDS))),
        _Check("I2", CHECKS.uncertain_unlisted.many),
        _Check("I5", CHECKS.sent_to_suppressed.many),
        _Check("I7", CHECKS.campaign_twice.many),
        _Check("I7", CHECKS.recipient_without_message.many),
        _Check("I7", CHECKS.message_without_recipient.many),
        _Check("I8", CHECKS.counts_differ.many),
        _Check("I9", CHECKS.events_disagree.many, (ends,)),
        _Check("I9", CHECKS.events_too_early.many),
        _Check("I11", CHECKS.leases_overdue.many, (sweep_s + _SLACK_S,)),
        _Check("partitions", CHECKS.outside_partitions.many),
        _Check("lanes", CHECKS.open_in_closed_lane.many),
    )
