"""Jobs: look them up with their history; retry, cancel or delete one, chosen ones, or all that a filter finds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from outrider.base.errors import Refused
from outrider.base.ids import NIL, parse_id
from outrider.contracts.actor import Actor
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.jobs import change, search, stats
from outrider.domain.jobs.change import ALLOWED, Changed
from outrider.domain.jobs.search import Filter
from outrider.domain.jobs.states import STATES
from outrider.domain.jobs.views import Job, StateChange
from outrider.domain.jobs.wanted import MOST_VALUES, wanted
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

MOST_IDS: Final = 1000
Verb = Literal["requeue", "cancel", "delete"]

Ours = Annotated[bool, QueryParameter(description="The installation's own jobs, for its administrators.")]
States = Annotated[
    list[str] | None,
    QueryParameter(
        name="state",
        max_items=MOST_VALUES,
        description=f"{', '.join(STATES)}, or the words of Hangfire and BullMQ. Repeatable.",
    ),
]
Types = Annotated[list[str] | None, QueryParameter(name="type", max_items=MOST_VALUES, description="Repeatable.")]
Queues = Annotated[list[str] | None, QueryParameter(name="queue", max_items=MOST_VALUES, description="Repeatable.")]
Arguments = Annotated[
    list[str] | None,
    QueryParameter(
        name="argument", max_items=MOST_VALUES, description="`name=value` that the arguments contain. Repeatable."
    ),
]
Text = Annotated[
    str | None,
    QueryParameter(max_length=search.LONGEST_TEXT, description="Somewhere in arguments, error, reason or person."),
]
Since = Annotated[str, QueryParameter(max_length=40, description="Enqueued then or later; RFC 3339 with its offset.")]
Until = Annotated[str, QueryParameter(max_length=40, description="Enqueued before this moment.")]
Names = Annotated[list[str], msgspec.Meta(max_length=MOST_VALUES)]


class JobWithHistory(msgspec.Struct):
    """A job with every state it was in, oldest first."""

    job: Job
    history: list[StateChange]


class JobCounts(msgspec.Struct):
    """Jobs of the tenant that are kept, per queue and state."""

    queues: dict[str, dict[str, int]]


class JobCount(msgspec.Struct):
    """How many jobs a filter finds, and how many of them each verb could change now."""

    count: int
    requeue: int
    cancel: int
    delete: int


class ReasonIn(msgspec.Struct, forbid_unknown_fields=True):
    """Why; kept in the job's history and the audit log."""

    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


class FilterIn(msgspec.Struct, forbid_unknown_fields=True):
    """Which jobs, as in `GET /jobs`; `argument` is an object that the arguments contain."""

    state: Names = []
    type: Names = []
    queue: Names = []
    text: Annotated[str, msgspec.Meta(max_length=search.LONGEST_TEXT)] = ""
    since: datetime | None = None
    until: datetime | None = None
    argument: dict[str, Any] = {}


class ManyIn(msgspec.Struct, forbid_unknown_fields=True):
    """Which jobs: by `ids`, or all that `filter` finds with the `count` of them that was seen."""

    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""
    ids: Annotated[list[UUID], msgspec.Meta(min_length=1, max_length=MOST_IDS)] | None = None
    filter: FilterIn | None = None
    count: Annotated[int, msgspec.Meta(ge=0)] | None = None
    is_installation: bool = False


class NotChanged(msgspec.Struct):
    """A job that was left as it is, and why."""

    id: UUID
    code: str
    message: str


class ChangedOut(msgspec.Struct):
    """What became of a wish: `ids` changed at once; `asked` are being run and end within about a second."""

    count: int
    ids: list[UUID]
    asked: list[UUID]
    not_changed: list[NotChanged] = []


_One = Callable[[UnitOfWork, Actor, UUID, str], Awaitable[Changed]]


@dataclass(frozen=True, slots=True)
class _Way:
    """One verb, for one job and for many."""

    one: _One
    many: Callable[..., Awaitable[Changed]]


_WAYS: dict[Verb, _Way] = {
    "requeue": _Way(change.requeue, change.requeue_many),
    "cancel": _Way(change.cancel, change.cancel_many),
    "delete": _Way(change.delete, change.delete_many),
}


@get("/jobs", guards=[needs("viewer", "jobs:read")])
async def listed(  # noqa: PLR0917 - the framework passes every argument by name
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    states: FromQuery[States] = None,
    types: FromQuery[Types] = None,
    queues: FromQuery[Queues] = None,
    arguments: FromQuery[Arguments] = None,
    text: FromQuery[Text] = None,
    since: FromQuery[Since] = "",
    until: FromQuery[Until] = "",
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[Job]:
    """Find jobs by state, type, queue, argument, text and time, newest first."""
    before = read_cursor(cursor, tuple[UUID])
    found = _wanted(states, types, queues, arguments, text, since, until)
    async with _opened(runtime, principal, is_installation=is_installation) as uow:
        items = await search.find(uow, found, limit=limit, before=before[0] if before else None)
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@get("/jobs/count", guards=[needs("viewer", "jobs:read")])
async def counted(  # noqa: PLR0917 - the framework passes every argument by name
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    states: FromQuery[States] = None,
    types: FromQuery[Types] = None,
    queues: FromQuery[Queues] = None,
    arguments: FromQuery[Arguments] = None,
    text: FromQuery[Text] = None,
    since: FromQuery[Since] = "",
    until: FromQuery[Until] = "",
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
) -> JobCount:
    """Count what a filter finds: what a change of many has to name."""
    found = _wanted(states, types, queues, arguments, text, since, until)
    async with _opened(runtime, principal, is_installation=is_installation) as uow:
        counts = {verb: await _count(uow, found, verb) for verb in _WAYS}
        everything = (await search.select(uow, found, limit=1)).count
    return JobCount(everything, **counts)


@get("/jobs/stats", guards=[needs("viewer", "jobs:read")])
async def summed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
) -> JobCounts:
    """Count the jobs that are kept, per queue and state."""
    async with _opened(runtime, principal, is_installation=is_installation) as uow:
        return JobCounts(await stats.counts(uow))


@get("/jobs/{job_id:str}", guards=[needs("viewer", "jobs:read")])
async def shown(
    job_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
) -> JobWithHistory:
    """Show a job with its progress, result or error, and every state it was in."""
    async with _opened(runtime, principal, is_installation=is_installation) as uow:
        return JobWithHistory(*await search.get(uow, parse_id(job_id, "job_id")))


@post("/jobs/{job_id:str}/retry", status_code=200, guards=[needs("operator", "jobs:write")])
async def retried(
    job_id: FromPath[str],
    data: JSONBody[ReasonIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
) -> ChangedOut:
    """Put a failed or deleted job back into its queue; reason `Manual retry` unless another is given."""
    return await _one("requeue", job_id, data, principal, runtime, is_installation=is_installation)


@post("/jobs/{job_id:str}/cancel", status_code=200, guards=[needs("operator", "jobs:write")])
async def cancelled(
    job_id: FromPath[str],
    data: JSONBody[ReasonIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
) -> ChangedOut:
    """Stop a job: a waiting one at once, a running one within about a second."""
    return await _one("cancel", job_id, data, principal, runtime, is_installation=is_installation)


@post("/jobs/{job_id:str}/delete", status_code=200, guards=[needs("operator", "jobs:write")])
async def deleted(
    job_id: FromPath[str],
    data: JSONBody[ReasonIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
) -> ChangedOut:
    """Withdraw a job that nobody runs; it stays visible as deleted."""
    return await _one("delete", job_id, data, principal, runtime, is_installation=is_installation)


@post("/jobs/retry", status_code=200, guards=[needs("operator", "jobs:write")])
async def many_retried(
    data: JSONBody[ManyIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ChangedOut:
    """Put chosen failed or deleted jobs back into their queues, or all that a filter finds."""
    return await _many("requeue", data, principal, runtime)


@post("/jobs/cancel", status_code=200, guards=[needs("operator", "jobs:write")])
async def many_cancelled(
    data: JSONBody[ManyIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ChangedOut:
    """Stop chosen jobs, or all open ones that a filter finds."""
    return await _many("cancel", data, principal, runtime)


@post("/jobs/delete", status_code=200, guards=[needs("operator", "jobs:write")])
async def many_deleted(
    data: JSONBody[ManyIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ChangedOut:
    """Withdraw chosen jobs, or all that a filter finds and nobody runs. What was deleted is listed in the audit log."""
    return await _many("delete", data, principal, runtime)


async def _one(
    verb: Verb, job_id: str, data: ReasonIn, principal: Principal, runtime: Runtime, *, is_installation: bool
) -> ChangedOut:
    identifier = parse_id(job_id, "job_id")
    async with _opened(runtime, principal, is_installation=is_installation) as uow:
        return _told(await _WAYS[verb].one(uow, principal.actor, identifier, data.reason))


async def _many(verb: Verb, data: ManyIn, principal: Principal, runtime: Runtime) -> ChangedOut:
    """Change the jobs named, each for itself, or all of a filter, all or none."""
    if (data.ids is None) == (data.filter is None):
        raise Refused("invalid_choice", "give either ids or filter", field="/filter")
    async with _opened(runtime, principal, is_installation=data.is_installation) as uow:
        if data.filter is None:
            return await _chosen(uow, verb, principal.actor, data.ids or [], data.reason)
        found = _filtered(data.filter)
        if data.count is None:
            count = await _count(uow, found, verb)
            raise Refused(
                "count_required",
                f"{count} jobs would be changed: repeat with count={count} to confirm",
                field="/count",
                status=409,
                count=count,
            )
        return _told(await _WAYS[verb].many(uow, principal.actor, found, expected=data.count, reason=data.reason))


async def _chosen(uow: UnitOfWork, verb: Verb, actor: Actor, ids: list[UUID], reason: str) -> ChangedOut:
    """Change each of these jobs if its state allows it."""
    out = ChangedOut(0, [], [])
    for job_id in dict.fromkeys(ids):
        try:
            done = await _WAYS[verb].one(uow, actor, job_id, reason)
        except Refused as error:
            if error.code not in {"not_found", "wrong_state", "queue_closed"}:
                raise
            out.not_changed.append(NotChanged(job_id, error.code, error.message))
        else:
            out.ids += done.ids
            out.asked += done.asked
    out.count = len(out.ids) + len(out.asked)
    return out


async def _count(uow: UnitOfWork, found: Filter, verb: Verb) -> int:
    return (await search.select(uow, search.restricted(found, ALLOWED[verb]), limit=1)).count


def _opened(
    runtime: Runtime, principal: Principal, *, is_installation: bool
) -> AbstractAsyncContextManager[UnitOfWork]:
    """A unit of work on the caller's jobs, or on the installation's own.

    Raises:  Refused(forbidden, 403).
    """
    if not is_installation:
        return runtime.db.uow(Role.APP, principal.tenant_id)
    if not principal.is_installation_admin:
        raise Refused("forbidden", "only administrators of the installation may do this", status=403)
    return runtime.db.uow(Role.ENGINE, NIL)


def _wanted(
    states: list[str] | None,
    types: list[str] | None,
    queues: list[str] | None,
    arguments: list[str] | None,
    text: str | None,
    since: str,
    until: str,
) -> Filter:
    return wanted(
        states=states or (),
        types=types or (),
        queues=queues or (),
        arguments=arguments or (),
        text=text,
        since=since,
        until=until,
        prefix="?",
    )


def _filtered(data: FilterIn) -> Filter:
    found = wanted(
        states=data.state,
        types=data.type,
        queues=data.queue,
        text=data.text,
        since=data.since,
        until=data.until,
        prefix="/filter/",
    )
    return replace(found, argument=data.argument or None)


def _told(changed: Changed) -> ChangedOut:
    return ChangedOut(changed.count, list(changed.ids), list(changed.asked))


ROUTES = [
    listed,
    counted,
    summed,
    shown,
    retried,
    cancelled,
    deleted,
    many_retried,
    many_cancelled,
    many_deleted,
]
