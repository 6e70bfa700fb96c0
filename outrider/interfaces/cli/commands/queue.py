"""Queues: what waits in them; pause, resume, limit or drain the queues of jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import Role
from outrider.domain.jobs import queues
from outrider.domain.jobs import stats as job_stats
from outrider.domain.messages import fills, stats
from outrider.interfaces.cli import draining, exits, quotas
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, JSON, Changing, Json, between, whole_number
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import note, within

APP = App(name="queue")

_JOBS = ("queue", "state", "waiting", "running", "scheduled", "failed_24h", "oldest_s", "at_once", "per_process")
Names = Annotated[str, Parameter(help="Names of queues of jobs, as `outrider queue status` lists them.")]
Count = Annotated[int, Parameter(converter=whole_number, validator=between(1, queues.MOST_AT_ONCE), n_tokens=1)]
All = Annotated[bool, Parameter(name="--all", negative="", help="Every queue of jobs.")]


@APP.command
async def status(*, options: Json = JSON) -> Answer:
    """Show how many messages and jobs wait, over all tenants, and since when.

    Example: `outrider queue status`
    """
    del options
    async with doors().database() as db, db.uow(Role.ENGINE) as uow:
        found = await stats.queue_stats(uow.raw)
        depths = await job_stats.figures(uow)
        stranded = await job_stats.stranded(uow)
        fill = (await fills.installation(uow.raw)).fill
    messages = [msgspec.to_builtins(each) for each in found]
    jobs = [draining.row_of(depth) for depth in depths]
    data = {
        "quota": quotas.shown(fill),
        "messages": messages,
        "jobs": jobs,
        "stranded": [msgspec.to_builtins(each) for each in stranded],
    }
    parts = [
        "quota\n" + quotas.line(fill),
        "messages\n" + table(messages, ("channel", "state", "depth", "oldest_at"), empty="nothing waits"),
        "jobs\n" + table(jobs, _JOBS, empty="no queues"),
        *(f"{each.count} {each.type} job(s) wait in {each.queue}: {each.cause}" for each in stranded),
    ]
    return Answer(data, "\n\n".join(parts))


@APP.command
async def pause(*name: Names, all_: All = False, options: Changing = CHANGING) -> Answer:
    """Begin no more jobs of queues; what is being run goes on, what waits stays. Pausing twice is no error.

    Example: `outrider queue pause report --reason "disk is full"`
    """

    async def one(work_uow: Any, actor: Actor, queue: str) -> queues.Queue:
        return await queues.pause(work_uow, actor, queue, options.reason)

    return await _each(name, all_, options, one, "paused")


@APP.command
async def resume(*name: Names, all_: All = False, options: Changing = CHANGING) -> Answer:
    """Let queues begin jobs again, and take them again after a drain.

    Example: `outrider queue resume report`
    """

    async def one(work_uow: Any, actor: Actor, queue: str) -> queues.Queue:
        return await queues.resume(work_uow, actor, queue, options.reason)

    return await _each(name, all_, options, one, "open")


@APP.command
async def concurrency(
    name: str,
    *,
    total: Count | None = None,
    per_process: Count | None = None,
    unlimited: Annotated[bool, Parameter(negative="")] = False,
    options: Changing = CHANGING,
) -> Answer:
    """Change how many jobs of a queue run at once, while it runs; every process keeps to it within a second.

    Example: `outrider queue concurrency report --total 2 --per-process 1`

    Parameters
    ----------
    name
        The queue.
    total
        Most jobs at once over all processes.
    per_process
        Most jobs at once in one process; OUTRIDER_QUEUE_CONCURRENCY when never given.
    unlimited
        Take both limits away first.
    """
    if total is None and per_process is None and not unlimited:
        raise Refused("required", "name a limit: --total, --per-process or --unlimited")
    async with (
        doors().database() as db,
        within(db, None, role=Role.ENGINE, dry_run=options.dry_run, reason=options.reason) as work,
    ):
        before = await queues.get(work.uow, name)
        kept = (None, None) if unlimited else (before.concurrency, before.worker_concurrency)
        after = await queues.set_concurrency(
            work.uow,
            work.actor,
            name,
            concurrency=total if total is not None else kept[0],
            worker_concurrency=per_process if per_process is not None else kept[1],
        )
    text = (
        f"{after.name}: {after.concurrency or 'any number'} at once, "
        f"{after.worker_concurrency or 'as OUTRIDER_QUEUE_CONCURRENCY says'} in one process"
    )
    return Answer(msgspec.to_builtins(after), note(text, dry_run=options.dry_run))


@APP.command
async def drain(
    *name: Names,
    limit_s: Annotated[
        int, Parameter(name="--time-limit", converter=whole_number, validator=between(1, 86_400), n_tokens=1)
    ] = 300,
    options: Changing = CHANGING,
) -> Answer:
    """Take no new jobs, let what waits and runs be finished, report what is held, end. Exit 1 at the time limit.

    What cannot be worked off is not waited for: jobs of paused queues, jobs that are due later. Without names: every
    queue of jobs and, where sending is paused or maintenance is on, the messages that are on the wire. The queues stay
    closed until `outrider queue resume`.

    Example: `outrider queue drain --time-limit 600`

    Parameters
    ----------
    limit_s
        Seconds to wait.
    """
    if options.reason == CHANGING.reason:
        options = replace(options, reason="drain")
    result = await draining.drain(name, options, limit_s=limit_s)
    code = exits.OK if result.is_drained or options.dry_run else exits.CHECK_FAILED
    return Answer(result.data(), note(result.text(), dry_run=options.dry_run), code)


async def _each(names: tuple[str, ...], is_all: bool, options: Changing, one: Any, done: str) -> Answer:  # noqa: FBT001 - given by a named option
    """Do something to every queue named, all or none."""
    if is_all == bool(names):
        raise Refused("invalid_choice", "name queues, or give --all", field="name")
    async with (
        doors().database() as db,
        within(db, None, role=Role.ENGINE, dry_run=options.dry_run, reason=options.reason) as work,
    ):
        wanted = [queue.name for queue in await queues.listed(work.uow)] if is_all else list(dict.fromkeys(names))
        found: list[queues.Queue] = [await one(work.uow, work.actor, name) for name in wanted]
    text = f"{', '.join(queue.name for queue in found)}: {done}"
    return Answer([msgspec.to_builtins(queue) for queue in found], note(text, dry_run=options.dry_run))
