"""The daily health check: whether what must hold still holds, and everything that should be running does.

Owns which checks there are; each is read-only. What is found is the result of the job, and makes it fail, so that it
stands where failed jobs stand and counts in their metric.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.audit import verify as chains
from outrider.domain.campaigns import validate as campaigns
from outrider.domain.contacts import validate as contacts
from outrider.domain.jobs import stats
from outrider.domain.limits import validate as limits
from outrider.domain.messages import validate as messages
from outrider.domain.messages import workers
from outrider.domain.messages.rows import SQL
from outrider.domain.schedules import watch

SILENT_S = 60.0
"""A process that said it is running and was not heard of for so long has died."""
_SHOWN = 10


class Finding(msgspec.Struct, frozen=True):
    """Something that should not be so: which check, how often at least, one example."""

    check: str
    count: int
    example: str


async def checkup(runtime: Runtime, done: Callable[[int, int, str], Awaitable[None]]) -> list[Finding]:
    """Run every check.

    Takes:   done  told how many of how many checks are done, and which comes next
    Gives:   what was found, nothing when all is well.
    """
    checks: tuple[tuple[str, Callable[[Runtime], AsyncIterator[str]]], ...] = (
        ("invariants", _invariants),
        ("audit chains", _chains),
        ("partitions", _partitions),
        ("schedules", _schedules),
        ("jobs", _jobs),
        ("processes", _processes),
    )
    found: list[Finding] = []
    for position, (name, check) in enumerate(checks):
        await done(position, len(checks), name)
        lines = [line async for line in check(runtime)]
        if lines:
            found.append(Finding(name, len(lines), "; ".join(lines[:_SHOWN])[:1000]))
    await done(len(checks), len(checks), "")
    return found


async def _invariants(runtime: Runtime) -> AsyncIterator[str]:
    async with runtime.db.uow(Role.ENGINE) as uow:
        async for one in messages.validate(uow.raw, sweep_s=runtime.settings.sweep_s):
            yield f"{one.invariant} {', '.join(one.ids[:3])} {one.detail}"
    for noun in (contacts, limits, campaigns):
        async with runtime.db.uow(Role.ENGINE) as uow:
            async for finding in noun.validate(uow.raw):
                yield f"{finding.invariant} {finding.id} {finding.detail}"


async def _chains(runtime: Runtime) -> AsyncIterator[str]:
    async with runtime.db.uow(Role.ENGINE) as uow:
        heads = await chains.heads(uow)
    for head in heads:
        async with runtime.db.uow(Role.ENGINE) as uow:
            found = await chains.verify(uow, head.tenant_id)
        if not found.is_whole:
            yield f"the audit log of tenant {head.tenant_id} breaks at entry {found.at_seq}: {found.problem}"


async def _partitions(runtime: Runtime) -> AsyncIterator[str]:
    async with runtime.db.uow(Role.ENGINE) as uow:
        if await SQL.default_partition_rows.value(uow.raw):
            yield "messages were accepted for a month without a partition"


async def _schedules(runtime: Runtime) -> AsyncIterator[str]:
    async with runtime.db.uow(Role.ENGINE) as uow:
        for each in await watch.troubles(uow):
            yield f"{each.name} ({each.id}): {each.problem or f'did not fire, {each.late_s:.0f} s late'}"


async def _jobs(runtime: Runtime) -> AsyncIterator[str]:
    async with runtime.db.uow(Role.ENGINE) as uow:
        for each in await stats.stranded(uow):
            yield f"{each.count} job(s) of type {each.type} wait in queue {each.queue}: {each.cause}"


async def _processes(runtime: Runtime) -> AsyncIterator[str]:
    async with runtime.db.uow(Role.ENGINE) as uow:
        seen = await workers.listed(uow.raw)
    for each in seen:
        if each.state == "running" and each.silent_s > SILENT_S:
            yield f"{each.process.role} {each.process.pid} on {each.process.host} is silent for {each.silent_s:.0f} s"
