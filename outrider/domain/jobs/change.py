"""What a person does to jobs: requeue, cancel, delete; one, or many with the count first. Every change is audited.

Never touches a job that is being run except to ask for its end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.jobs import search
from outrider.domain.jobs.rows import SQL
from outrider.domain.jobs.states import ENDED, REQUEUEABLE
from outrider.domain.limits.reasons import clean_reason

MANUAL_RETRY = "Manual retry"
MOST_AT_ONCE = 10_000
_WAITING = ("scheduled", "enqueued")
_LISTED_IN_AUDIT = 1000
_LISTED_IN_A_LINE = 50
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of a wish: the jobs that were changed at once, and those being run whose end was asked for."""

    ids: tuple[UUID, ...]
    asked: tuple[UUID, ...] = ()

    @property
    def count(self) -> int:
        """Both together."""
        return len(self.ids) + len(self.asked)


async def requeue(
    uow: UnitOfWork,
    actor: Actor,
    job_id: UUID,
    reason: str = MANUAL_RETRY,
    *,
    states: tuple[str, ...] = REQUEUEABLE,
) -> Changed:
    """Put one failed or deleted job back into its queue, with a fresh budget of attempts [S0-31].

    Takes:   states  in which the person expects it: whoever agreed to retry a failed job did not mean a deleted one
    Raises:  Refused(not_found, wrong_state, queue_closed), nothing changed.
    """
    row = await _locked(uow, job_id)
    if row["state"] not in states:
        may = " or ".join(states)
        raise Refused("wrong_state", f"only {may} jobs can be requeued; it is {row['state']}", status=409)
    changed = await _requeue(uow, actor, [job_id], reason, states)
    if not changed.ids:
        raise Refused("queue_closed", "its queue takes no jobs, or one with the same dedup key is open", status=409)
    return changed


async def cancel(uow: UnitOfWork, actor: Actor, job_id: UUID, reason: str = "") -> Changed:
    """Stop one job: a waiting one ends at once as deleted; of a running one the end is asked for (at most 1 s away).

    Asking again is no error. Raises:  Refused(not_found, wrong_state).
    """
    row = await _locked(uow, job_id)
    if row["state"] in ENDED:
        raise Refused("wrong_state", f"it has ended already: {row['state']}", status=409)
    return await _cancel(uow, actor, [job_id], reason)


async def delete(uow: UnitOfWork, actor: Actor, job_id: UUID, reason: str = "") -> Changed:
    """Withdraw one job that is not being run; it stays visible as deleted until its retention ends.

    Raises:  Refused(not_found, wrong_state).
    """
    row = await _locked(uow, job_id)
    if row["state"] not in (*_WAITING, "succeeded", "failed"):
        raise Refused("wrong_state", f"it is {row['state']}: cancel what is being run", status=409)
    return await _delete(uow, actor, [job_id], reason)


async def requeue_many(
    uow: UnitOfWork, actor: Actor, wanted: search.Filter, *, expected: int, reason: str = MANUAL_RETRY
) -> Changed:
    """Requeue every failed or deleted job that a filter finds; `expected` is the count the person agreed to.

    Raises:  Refused(count_changed) when there are others now; Refused(too_many) above 10,000.
    """
    states = tuple(search.restricted(wanted, REQUEUEABLE).states or ())
    return await _many(uow, actor, wanted, states, expected, reason, partial(_requeue, states=states))


async def cancel_many(
    uow: UnitOfWork, actor: Actor, wanted: search.Filter, *, expected: int, reason: str = ""
) -> Changed:
    """Cancel every open job that a filter finds; as `requeue_many`."""
    return await _many(uow, actor, wanted, (*_WAITING, "processing"), expected, reason, _cancel)


async def delete_many(
    uow: UnitOfWork, actor: Actor, wanted: search.Filter, *, expected: int, reason: str = ""
) -> Changed:
    """Withdraw every job that a filter finds and nobody runs; as `requeue_many`."""
    return await _many(uow, actor, wanted, (*_WAITING, "succeeded", "failed"), expected, reason, _delete)


ALLOWED: dict[str, tuple[str, ...]] = {
    "requeue": REQUEUEABLE,
    "cancel": (*_WAITING, "processing"),
    "delete": (*_WAITING, "succeeded", "failed"),
}
"""Which states each verb works on: what a count before `…_many` must be restricted to."""

_Verb = Callable[[UnitOfWork, Actor, Sequence[UUID], str], Awaitable[Changed]]


async def _many(
    uow: UnitOfWork,
    actor: Actor,
    wanted: search.Filter,
    states: tuple[str, ...],
    expected: int,
    reason: str,
    verb: _Verb,
) -> Changed:
    found = await search.select(uow, search.restricted(wanted, states), limit=MOST_AT_ONCE)
    if found.count > MOST_AT_ONCE:
        raise Refused("too_many", f"{found.count} jobs at once are too many; at most {MOST_AT_ONCE}", field="/filter")
    if found.count != expected:
        raise Refused(
            "count_changed", f"there are {found.count} such jobs now, not {expected}", status=409, count=found.count
        )
    return await verb(uow, actor, found.ids, reason) if found.ids else Changed(())


async def _requeue(
    uow: UnitOfWork, actor: Actor, ids: Sequence[UUID], reason: str, states: Sequence[str] = REQUEUEABLE
) -> Changed:
    """Put back what still is in one of these states; of jobs with one dedup key the youngest."""
    why = clean_reason(reason or MANUAL_RETRY)
    try:
        async with uow.savepoint():
            rows = await SQL.job_put_back.many(uow.raw, uow.tenant, list(ids), why, actor.name, list(states))
    except asyncpg.UniqueViolationError:  # a twin was enqueued between the look for it and the write
        raise Refused("queue_closed", "a job with the same dedup key was enqueued meanwhile", status=409) from None
    return await _told(uow, actor, "job.requeue", Changed(tuple(row["id"] for row in rows)), why)


async def _cancel(uow: UnitOfWork, actor: Actor, ids: Sequence[UUID], reason: str) -> Changed:
    why = clean_reason(reason)
    asked = await SQL.job_ask_cancel.many(uow.raw, uow.tenant, list(ids), why, actor.name)
    gone = await _withdraw(uow, actor, ids, f"cancelled: {why}", _WAITING)
    return await _told(uow, actor, "job.cancel", Changed(gone, tuple(row["id"] for row in asked)), why)


async def _delete(uow: UnitOfWork, actor: Actor, ids: Sequence[UUID], reason: str) -> Changed:
    why = clean_reason(reason)
    gone = await _withdraw(uow, actor, ids, f"withdrawn: {why}", ALLOWED["delete"])
    return await _told(uow, actor, "job.delete", Changed(gone), why)


async def _withdraw(
    uow: UnitOfWork, actor: Actor, ids: Sequence[UUID], reason: str, states: Sequence[str]
) -> tuple[UUID, ...]:
    rows = await SQL.job_withdraw.many(uow.raw, uow.tenant, list(ids), reason, actor.name, list(states))
    return tuple(row["id"] for row in rows)


async def _locked(uow: UnitOfWork, job_id: UUID) -> Any:
    row = await SQL.job_lock.one(uow.raw, uow.tenant, job_id)
    if row is None:
        raise Refused("not_found", "no such job", field="job", status=404)
    return row


async def _told(uow: UnitOfWork, actor: Actor, action: str, changed: Changed, reason: str) -> Changed:
    """Write down who did what to which jobs; every id goes to the log, the first thousand into the entry [S3-25]."""
    ids = [str(each) for each in (*changed.ids, *changed.asked)]
    details = {"count": len(ids), "ids": ids[:_LISTED_IN_AUDIT], "asked_count": len(changed.asked)}
    target = ids[0] if len(ids) == 1 else f"{len(ids)} jobs"
    await append(uow, actor, action=action, target=("job", target), reason=reason, details=details)
    for at in range(0, len(ids), _LISTED_IN_A_LINE):
        _log.info(
            action.replace(".", "_"),
            actor=actor.name,
            tenant=str(uow.tenant),
            ids=",".join(ids[at : at + _LISTED_IN_A_LINE]),
        )
    return changed
