"""What a process that runs jobs says and asks (engine role): begin, hold, progress, finish, heartbeat, take over.

Every write is fenced: by the number of the run until it has begun, by its token afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from outrider.contracts.jobs import Superseded
from outrider.data.db import UnitOfWork
from outrider.domain.jobs.rows import RUNS
from outrider.domain.jobs.stats import SILENT_S

MOST_CRASHES = 3
"""A job whose processes died this often is poison and not begun again."""
OVERDUE_S = 10.0
"""How long after its deadline a run may still end by itself before another process ends it."""
UNSEEN_S = 15.0
"""How long a claim or a run may be missing from its living worker's list."""
SET_ASIDE_S = 15.0
SET_ASIDE_MOST_S = 300.0
IDLE_MOST_MS = 20_000
"""How long a transaction that holds a job may stand still: less than SILENT_S, or a process that stopped in it would
keep its job from everybody."""
_BITE = 200
_TURN = 0x4F55_5452_4A4F_4253
"""The advisory lock of who takes over: "OUTRJOBS"."""
_TURN_IDLE_MOST_MS = 5_000

End = Literal["succeeded", "failed", "deleted", "scheduled", "enqueued"]


@dataclass(frozen=True, slots=True)
class RunId:
    """Which run of which job; its text is what DBOS knows it by."""

    tenant_id: UUID
    job_id: UUID
    number: int

    def __str__(self) -> str:
        return f"{self.tenant_id}/{self.job_id}/{self.number}"

    @classmethod
    def parse(cls, text: str) -> RunId:
        """Read the text of one; ValueError for anything else."""
        tenant, job, number = text.split("/")
        return cls(UUID(tenant), UUID(job), int(number))


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that has begun."""

    type: str
    queue: str
    arguments: str
    attempt: int
    max_attempts: int
    timeout_s: int
    created_by: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: `result` is JSON text, `retry_in_s` is for `scheduled`, `done` and `total` its last words."""

    state: End
    reason: str = ""
    result: str | None = None
    error_code: str | None = None
    error: str | None = None
    retry_in_s: float = 0.0
    done: int | None = None
    total: int | None = None


async def begin(uow: UnitOfWork, run: RunId, token: UUID, worker_id: UUID, types: Sequence[str]) -> Begun | None:
    """Begin a run; None when there is nothing to begin: see `set_straight`. Repeating it with its token is harmless."""
    row = await RUNS.run_begin.one(uow.raw, run.tenant_id, run.job_id, run.number, token, worker_id, list(types))
    return None if row is None else Begun(**dict(row.items()))


async def set_straight(uow: UnitOfWork, run: RunId, types: Sequence[str]) -> str:
    """Do what a run calls for that did not begin; gives why, for the log.

    Its queue was paused: the job waits with a new run. Its type is unknown here: it is tried again later, perhaps by a
    worker that knows it. Else it was cancelled, withdrawn or taken over, and nothing is to be done.
    """
    row = await RUNS.run_look.one(uow.raw, run.tenant_id, run.job_id)
    if row is None or row["run"] != run.number or row["state"] != "enqueued":
        return "superseded"
    if row["is_paused"]:
        await RUNS.run_again.one(uow.raw, run.tenant_id, run.job_id, run.number, False)  # noqa: FBT003 - SQL's
        return "paused"
    if row["type"] not in types:
        why = f"no worker that claimed it knows the type {row['type']}"
        await RUNS.run_set_aside.run(uow.raw, run.tenant_id, run.job_id, run.number, why, SET_ASIDE_S, SET_ASIDE_MOST_S)
        return "unknown type"
    await RUNS.run_again.one(uow.raw, run.tenant_id, run.job_id, run.number, False)  # noqa: FBT003 - SQL's
    return "resumed meanwhile"


async def hold(uow: UnitOfWork, run: RunId, token: UUID) -> None:
    """Keep the job from being taken over until the unit of work ends.

    Raises:  Superseded when that has happened.
    """
    if await RUNS.run_hold.one(uow.raw, run.tenant_id, run.job_id, token, str(IDLE_MOST_MS)) is None:
        raise Superseded


async def progress(uow: UnitOfWork, run: RunId, token: UUID, done: int, total: int | None, note: str) -> None:
    """Write how far a run is.

    Raises:  Superseded.
    """
    if not await RUNS.run_progress.run(uow.raw, run.tenant_id, run.job_id, token, done, total, note):
        raise Superseded


async def finish(uow: UnitOfWork, run: RunId, token: UUID, worker_id: UUID, ending: Ending) -> str | None:
    """End a run.

    Gives:   the state the job is in now: what somebody wants cancelled ends as deleted instead of being tried again.
             None when it was not this run's to end: taken over, or ended by an earlier try of the same call.
    """
    row = await RUNS.run_finish.one(
        uow.raw, run.tenant_id, run.job_id, token, ending.state, ending.reason, ending.result, ending.error_code,
        ending.error, ending.retry_in_s, worker_id, ending.done, ending.total,
    )  # fmt: skip
    return None if row is None else row["state"]


@dataclass(frozen=True, slots=True)
class Ready:
    """A queue with something to claim, and its limits (None: none; the setting's)."""

    name: str
    concurrency: int | None
    worker_concurrency: int | None


async def ready_queues(uow: UnitOfWork) -> list[Ready]:
    """Queues that are not paused and have something to claim."""
    return [Ready(**dict(row.items())) for row in await RUNS.queues_ready.many(uow.raw)]


@dataclass(frozen=True, slots=True)
class Self:
    """What a process that runs jobs says of itself. `place`: the boot and pid namespace in which its pid means it."""

    id: UUID
    host: str
    place: str
    pid: int
    types: tuple[str, ...]


async def beat(uow: UnitOfWork, me: Self, runs: Sequence[str], *, is_stopping: bool) -> list[UUID]:
    """Say that a process lives and which runs it holds. Gives the jobs among them that somebody wants cancelled."""
    rows = await RUNS.worker_beat.many(
        uow.raw, me.id, me.host, me.place, me.pid, list(me.types), list(runs), is_stopping
    )
    return [row["id"] for row in rows]


async def clock(uow: UnitOfWork) -> datetime:
    """What time it is by the clock that heartbeats are written with: the database's."""
    now: datetime = await RUNS.clock.value(uow.raw)
    return now


async def put_off(uow: UnitOfWork, began_before: datetime, leapt_s: float) -> int:
    """After the clock leapt forwards, give what was running the time that never passed; repeating it is harmless."""
    return await RUNS.deadlines_put_off.run(uow.raw, began_before, leapt_s)


async def leave(uow: UnitOfWork, worker_id: UUID) -> None:
    """A process ends in order and holds nothing any more."""
    await RUNS.worker_gone.run(uow.raw, worker_id)


async def neighbours(uow: UnitOfWork, place: str) -> dict[UUID, int]:
    """Processes of the same boot and pid namespace that are taken for living, with their pids."""
    return {row["id"]: row["pid"] for row in await RUNS.workers_here.many(uow.raw, place, SILENT_S)}


async def declare_dead(uow: UnitOfWork, worker_ids: Sequence[UUID]) -> None:
    """Processes that are known to be gone need not be waited for until they are silent."""
    await RUNS.workers_died.run(uow.raw, list(worker_ids))


async def promote(uow: UnitOfWork, limit: int = 1000) -> int:
    """Enqueue scheduled jobs whose time has come. Gives how many."""
    return len(await RUNS.run_promote.many(uow.raw, limit))


async def take_over(uow: UnitOfWork) -> dict[str, int]:
    """End or requeue what dead, silent or forgetful processes left; one process at a time, the others skip.

    Gives:   what was done, by kind; empty when there was nothing or it was another's turn.
    Source:  architecture.md section 1, jobs; S0-47, S3-24
    """
    if not await RUNS.reap_turn.value(uow.raw, _TURN, str(_TURN_IDLE_MOST_MS)):
        return {}
    done: dict[str, int] = {}

    def count(kind: str) -> None:
        done[kind] = done.get(kind, 0) + 1

    for row in await RUNS.lost_running.many(uow.raw, SILENT_S, OVERDUE_S, UNSEEN_S, _BITE):
        state, reason, code, crash = _verdict(row)
        if await RUNS.run_take_over.one(
            uow.raw, row["tenant_id"], row["id"], row["run_token"], state, reason, code, reason if code else None,
            crash, row["run"],
        ):  # fmt: skip
            count(code or state)
    for row in await RUNS.lost_claims.many(uow.raw, SILENT_S, UNSEEN_S, _BITE):
        if await RUNS.run_again.one(uow.raw, row["tenant_id"], row["id"], row["run"], True):  # noqa: FBT003 - SQL's
            count("claim")
    for row in await RUNS.lost_runs.many(uow.raw, UNSEEN_S, _BITE):
        if await RUNS.run_again.one(uow.raw, row["tenant_id"], row["id"], row["run"], True):  # noqa: FBT003 - SQL's
            count("run")
    for row in await RUNS.orphans.many(uow.raw, SILENT_S, UNSEEN_S, _BITE):
        await RUNS.run_remove.value(uow.raw, row["tenant_id"], row["id"], row["run"])
        count("orphan")
    return done


def _verdict(row: Any) -> tuple[str, str, str | None, int]:
    """What becomes of a run that nobody ends: state, reason, error code, whether it counts as a crash."""
    crash = int(row["is_dead"])
    if row["is_cancelled"]:
        return "deleted", "cancelled while its worker was gone", None, crash
    if row["is_overdue"]:
        return "failed", "its time was over; the process that ran it did not end it", "timed_out", crash
    if row["crashes"] + crash >= MOST_CRASHES:
        return "failed", f"the processes that ran it died {MOST_CRASHES} times", "poison", crash
    why = "the process that ran it is gone" if row["is_dead"] else "the process that ran it knows nothing of it"
    return "enqueued", why, None, crash
