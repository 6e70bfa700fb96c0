"""Jobs: list, show, retry, cancel and delete them; on the database itself, also while API and scheduler are down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.jobs import change, search, stats
from outrider.domain.jobs.change import ALLOWED, MANUAL_RETRY, Changed
from outrider.domain.jobs.search import Filter
from outrider.domain.jobs.states import OPEN, STATES
from outrider.domain.jobs.views import Job, StateChange
from outrider.interfaces.cli import jobs
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.jobs import WANTED, Ours, Wanted
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.progress import progress as bar
from outrider.interfaces.cli.work import note

APP = App(name="jobs")

_POLL_S: Final = 1.0
Ids = Annotated[str, Parameter(help="Ids of jobs.")]
All = Annotated[bool, Parameter(name="--all", negative="", help="Every job that the other options find.")]
_One = Callable[[UnitOfWork, Actor, UUID, str], Awaitable[Changed]]


@dataclass(frozen=True, slots=True)
class _Way:
    """A verb: for one and for many, the word that confirms it, and what happens in words."""

    name: str
    one: _One
    many: Callable[..., Awaitable[Changed]]
    word: str
    future: str
    past: str


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Which jobs a verb is for: those named, or (without ids) all of a filter; and the states it works on."""

    ids: list[UUID]
    wanted: Filter
    states: tuple[str, ...]
    is_installation: bool


_RETRY = _Way(
    "requeue", change.requeue, change.requeue_many, "retry", "put back into their queues", "back in the queue"
)
_CANCEL = _Way("cancel", change.cancel, change.cancel_many, "cancel", "stopped", "cancelled")
_DELETE = _Way("delete", change.delete, change.delete_many, "delete", "withdrawn", "deleted")


@APP.command(name="list")
async def list_(
    *,
    wanted: Wanted = WANTED,
    before: str | None = None,
    limit: Limit = 50,
    installation: Ours = False,
    options: Common = COMMON,
) -> Answer:
    """List jobs, newest first.

    Example: `outrider jobs list --state failed --queue import`

    Parameters
    ----------
    before
        Only older ones than this job id.
    """
    last = jobs.ids_of([before])[0] if before else None
    asked = wanted.filter()
    async with jobs.at_work(options, is_installation=installation) as work:
        found = await search.find(work.uow, asked, limit=limit, before=last)
    return Answer(msgspec.to_builtins(found), table(jobs.rows_of(found), jobs.COLUMNS, empty="no jobs"))


@APP.command
async def show(
    job: str,
    *,
    follow: Annotated[bool, Parameter(negative="", help="Go on until it has ended.")] = False,
    installation: Ours = False,
    options: Common = COMMON,
) -> Answer:
    """Show one job: progress, result or error, and every state it was in.

    Example: `outrider jobs show ID --follow`

    Parameters
    ----------
    job
        Its id.
    """
    (job_id,) = jobs.ids_of([job])
    found, history = await _read(job_id, installation=installation, options=options)
    if follow and found.state in OPEN:
        with bar(f"{found.type}", found.progress.total if found.progress else None) as advance:
            while found.state in OPEN:
                await asyncio.sleep(_POLL_S)
                found, history = await _read(job_id, installation=installation, options=options)
                if found.progress is not None:
                    advance(found.progress.done)
    data: dict[str, Any] = {**msgspec.to_builtins(found), "history": msgspec.to_builtins(history)}
    return Answer(data, jobs.told(found, history))


@APP.command(name="stats")
async def stats_(*, installation: Ours = False, options: Common = COMMON) -> Answer:
    """Count the jobs that are kept, per queue and state.

    Example: `outrider jobs stats`
    """
    async with jobs.at_work(options, is_installation=installation) as work:
        found = await stats.counts(work.uow)
    rows = [{"queue": queue, **counts} for queue, counts in found.items()]
    return Answer(rows, table(rows, ("queue", *STATES), empty="no jobs"))


@APP.command
async def retry(
    *job: Ids,
    all_: All = False,
    wanted: Wanted = WANTED,
    deleted: Annotated[bool, Parameter(negative="", help="Also deleted jobs; else only failed ones.")] = False,
    installation: Ours = False,
    yes: Yes = False,
    options: Changing = CHANGING,
) -> Answer:
    """Put failed jobs back into their queues, as if new. Works with API and scheduler down: they run when one starts.

    The reason is `Manual retry` unless another is given. A job that did half of its work does that half again: look
    at what it does before.

    Example: `outrider jobs retry --all --state failed --queue report`
    """
    if options.reason == CHANGING.reason:
        options = replace(options, reason=MANUAL_RETRY)
    states = ("failed", "deleted") if deleted else ("failed",)
    chosen = _Chosen(jobs.ids_of(job), _all(all_, wanted, job), states, is_installation=installation)
    # the states again: between look and change a failed job may have been deleted by somebody else
    return await _change(replace(_RETRY, one=partial(change.requeue, states=states)), chosen, options, yes=yes)


@APP.command
async def cancel(
    *job: Ids,
    all_: All = False,
    wanted: Wanted = WANTED,
    installation: Ours = False,
    yes: Yes = False,
    options: Changing = CHANGING,
) -> Answer:
    """Stop jobs: waiting ones at once, running ones within about a second of their worker hearing it.

    Example: `outrider jobs cancel ID --reason "no longer needed"`
    """
    states = ALLOWED["cancel"]
    chosen = _Chosen(jobs.ids_of(job), _all(all_, wanted, job), states, is_installation=installation)
    return await _change(_CANCEL, chosen, options, yes=yes)


@APP.command
async def delete(
    *job: Ids,
    all_: All = False,
    wanted: Wanted = WANTED,
    installation: Ours = False,
    yes: Yes = False,
    options: Changing = CHANGING,
) -> Answer:
    """Withdraw jobs that nobody runs; they stay visible as deleted, and the audit log lists them.

    Example: `outrider jobs delete --all --state failed --queue import`
    """
    states = ALLOWED["delete"]
    chosen = _Chosen(jobs.ids_of(job), _all(all_, wanted, job), states, is_installation=installation)
    return await _change(_DELETE, chosen, options, yes=yes)


async def _read(job_id: UUID, *, installation: bool, options: Common) -> tuple[Job, list[StateChange]]:
    async with jobs.at_work(options, is_installation=installation) as work:
        return await search.get(work.uow, job_id)


async def _change(way: _Way, chosen: _Chosen, options: Changing, *, yes: bool) -> Answer:
    """Look first, ask with the count, then change: nobody is asked while a transaction is open."""
    async with jobs.at_work(options, is_installation=chosen.is_installation) as work:
        count, left, what = await _looked_up(work.uow, chosen)
    if count and not options.dry_run:
        confirm(f"{what} will be {way.future}", way.word, yes=yes)
    done = _Done([], [], left)
    async with jobs.at_work(options, is_installation=chosen.is_installation, dry_run=options.dry_run) as work:
        if not chosen.ids:
            wanted = search.restricted(chosen.wanted, chosen.states)
            done.add(await way.many(work.uow, work.actor, wanted, expected=count, reason=options.reason))
        for job_id in chosen.ids:
            if job_id not in done.left:
                done.add(await way.one(work.uow, work.actor, job_id, options.reason))
        is_anybody_there = any(worker.is_alive for worker in await stats.workers(work.uow))
    return Answer(done.data(), note(done.text(way, is_anybody_there=is_anybody_there), dry_run=options.dry_run))


async def _looked_up(uow: UnitOfWork, chosen: _Chosen) -> tuple[int, dict[UUID, str], str]:
    """How many jobs would change, which of the named ones would not, and in words what is meant.

    Raises:  Refused(not_found; wrong_state, 409) when none of the jobs named can be changed.
    """
    if not chosen.ids:
        count = (await search.select(uow, search.restricted(chosen.wanted, chosen.states), limit=1)).count
        return count, {}, f"{count} job(s) that are {' or '.join(chosen.states)}"
    left: dict[UUID, str] = {}
    what = ""
    for job_id in chosen.ids:
        found, _history = await search.get(uow, job_id)
        what = f"job {found.id} ({found.type}, {found.state}{f': {found.error}' if found.error else ''})"
        if found.state not in chosen.states:
            left[job_id] = f"is {found.state}, not {' or '.join(chosen.states)}"
    if len(left) == len(chosen.ids):
        first, why = next(iter(left.items()))
        raise Refused("wrong_state", f"{first} {why}; nothing was changed", field="job", status=409)
    count = len(chosen.ids) - len(left)
    return count, left, what if len(chosen.ids) == 1 else f"{count} of the {len(chosen.ids)} jobs named"


@dataclass(slots=True)
class _Done:
    """What became of the jobs: changed at once, asked to end, left as they are (and why)."""

    ids: list[UUID]
    asked: list[UUID]
    left: dict[UUID, str]

    def add(self, changed: Changed) -> None:
        self.ids += changed.ids
        self.asked += changed.asked

    def data(self) -> dict[str, Any]:
        not_changed = [{"id": job_id, "message": why} for job_id, why in self.left.items()]
        count = len(self.ids) + len(self.asked)
        return {"count": count, "ids": self.ids, "asked": self.asked, "not_changed": not_changed}

    def text(self, way: _Way, *, is_anybody_there: bool) -> str:
        parts = [f"{len(self.ids)} job(s) {way.past}"]
        if self.asked:
            parts.append(f"{len(self.asked)} running one(s) asked to end")
        parts += [f"{job_id} {why}: left as it is" for job_id, why in self.left.items()]
        if not is_anybody_there and (self.asked or (way.name == _RETRY.name and self.ids)):
            parts.append("no scheduler is alive: start one (`outrider up` or `outrider scheduler`)")
        return "; ".join(parts)


def _all(is_all: bool, wanted: Wanted, ids: tuple[str, ...]) -> Filter:  # noqa: FBT001 - given by a named option
    """The filter of a change of many.

    Raises:  Refused(invalid_choice) unless jobs are named, or else --all is said.
    """
    if is_all == bool(ids):
        raise Refused("invalid_choice", "name jobs by id, or give --all (with options that say which)", field="job")
    if ids and not wanted.is_empty:
        raise Refused("invalid_choice", "jobs named by id need no other options to find them", field="job")
    return wanted.filter()
