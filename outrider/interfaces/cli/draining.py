"""A drain from the command line: intake closed, what can be finished is waited for, what cannot is reported.

Owns waiting and telling. Taken literally a drain of paused queues never ends; this one ends when nothing moves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from outrider.data.db import Database, Role
from outrider.domain.jobs import queues
from outrider.domain.jobs import stats as job_stats
from outrider.domain.jobs.stats import Depth
from outrider.domain.limits import maintenance, switches
from outrider.domain.messages import stats
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import Changing
from outrider.interfaces.cli.output import table
from outrider.interfaces.cli.progress import progress
from outrider.interfaces.cli.work import within

_POLL_S: Final = 0.5
_HELD: Final = ("queue", "state", "waiting", "running", "scheduled")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a drain is: jobs per queue; messages per state, None while sending goes on and is not waited for.

    has_workers: whether any live process runs jobs; without one, jobs stay as they are.
    """

    queues: list[Depth]
    messages: dict[str, int] | None
    has_workers: bool

    @property
    def left_count(self) -> int:
        """What is still waited for."""
        jobs = sum(
            depth.counts["processing"] + (0 if depth.queue.paused_at else depth.counts["enqueued"])
            for depth in self.queues
        )
        return (jobs if self.has_workers else 0) + (self.messages or {}).get("sending", 0)


@dataclass(frozen=True, slots=True)
class Drained:
    """How a drain ended."""

    standing: Standing
    is_drained: bool
    took_s: float
    concerns_messages: bool

    def data(self) -> dict[str, Any]:
        """For programs."""
        return {
            "is_drained": self.is_drained,
            "took_s": round(self.took_s, 1),
            "queues": [row_of(depth) for depth in self.standing.queues],
            "messages": self.standing.messages,
        }

    def text(self) -> str:
        """For people: what is held, and what to do when all is over."""
        names = ", ".join(depth.queue.name for depth in self.standing.queues)
        ended = "drained" if self.is_drained else f"not drained within the time limit, {self.standing.left_count} left"
        held = [row for row in map(row_of, self.standing.queues) if row["waiting"] + row["running"] + row["scheduled"]]
        parts = [f"{names}: {ended} after {self.took_s:.1f} s", "held\n" + table(held, _HELD, empty="no jobs")]
        if self.standing.messages is not None:
            rows = [{"state": state, "messages": count} for state, count in sorted(self.standing.messages.items())]
            parts.append("held\n" + table(rows, ("state", "messages"), empty="no messages"))
        elif self.concerns_messages:
            parts.append("messages go on being sent: `outrider pause installation` first to drain them too")
        if held and not self.standing.has_workers:
            parts.append("no scheduler is alive: these jobs stay as they are until one starts")
        parts.append("these queues take no jobs until `outrider queue resume`")
        return "\n\n".join(parts)


async def drain(names: Sequence[str], options: Changing, *, limit_s: int) -> Drained:
    """Close, wait, report. A dry run closes nothing and waits for nothing.

    Raises:  Refused(unknown_queue), nothing closed.
    """
    began_s = time.monotonic()
    async with doors().database() as db:
        async with within(db, None, role=Role.ENGINE, dry_run=options.dry_run, reason=options.reason) as work:
            wanted = list(dict.fromkeys(names)) or [queue.name for queue in await queues.listed(work.uow)]
            for name in wanted:
                await queues.close(work.uow, work.actor, name, options.reason)
        standing = await _look(db, wanted, with_messages=not names)
        with progress("draining", standing.left_count) as advance:
            first = standing.left_count
            while standing.left_count and not options.dry_run and time.monotonic() - began_s < limit_s:
                await asyncio.sleep(_POLL_S)
                standing = await _look(db, wanted, with_messages=not names)
                advance(max(0, first - standing.left_count))
    took_s = time.monotonic() - began_s
    return Drained(standing, not standing.left_count, took_s, concerns_messages=not names)


async def _look(db: Database, names: list[str], *, with_messages: bool) -> Standing:
    async with db.uow(Role.ENGINE) as uow:
        depths = [depth for depth in await job_stats.figures(uow) if depth.queue.name in names]
        has_workers = any(worker.is_alive for worker in await job_stats.workers(uow))
        if not with_messages:
            return Standing(depths, None, has_workers)
        is_paused = any(each.scope == "installation" for each in await switches.listed(uow))
        if not (is_paused or (await maintenance.read(uow)).is_on):
            return Standing(depths, None, has_workers)
        counts: dict[str, int] = {}
        for each in await stats.queue_stats(uow.raw):
            counts[each.state] = counts.get(each.state, 0) + each.depth
        return Standing(depths, counts, has_workers)


def row_of(depth: Depth) -> dict[str, Any]:
    """A queue as a line of a table."""
    queue, counts = depth.queue, depth.counts
    states = [word for word, at in (("paused", queue.paused_at), ("closed", queue.closed_at)) if at]
    return {
        "queue": queue.name,
        "state": ", ".join(states) or "open",
        "waiting": counts["enqueued"],
        "running": counts["processing"],
        "scheduled": counts["scheduled"],
        "failed_24h": counts["failed"],
        "oldest_s": round(depth.oldest_s, 1),
        "at_once": queue.concurrency,
        "per_process": queue.worker_concurrency,
        "reason": queue.pause_reason or queue.close_reason,
    }
