"""What a job type must be, what a running job gets, and the port through which jobs are enqueued.

A job type is one file in `outrider/plugins/jobs/` whose `JOB` has the file's name as its key. Owns shapes and bounds;
knows nothing of how jobs are stored, claimed or run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec

from outrider.base.errors import Misconfigured
from outrider.contracts.actor import Actor
from outrider.contracts.schedules import Standing

FIRST_PRIORITY = 0
LAST_PRIORITY = 9
LONGEST_TIMEOUT_S = 86_400
MOST_ATTEMPTS = 100


class NoArguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The arguments of a job type that takes none."""


class JobContext(Protocol):
    """What a running job gets."""

    @property
    def runtime(self) -> Any:
        """The process's `outrider.data.runtime.Runtime`; a CPU-bound job has none and asking for it is Broken."""

    @property
    def tenant_id(self) -> UUID:
        """Whose job it is; NIL: the installation's."""

    @property
    def job_id(self) -> UUID:
        """The job, the same through all attempts."""

    @property
    def type_key(self) -> str:
        """The key of its type."""

    @property
    def attempt(self) -> int:
        """1.. : which attempt this is; one that ended with its process is not counted."""

    @property
    def created_by(self) -> str:
        """The name of who enqueued it."""

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked to cancel it; its task is cancelled right after, so few jobs need to look."""

    async def progress(self, done: int, total: int | None = None, note: str = "") -> None:
        """Say how far it is. Call it as often as you like: it is written at most once a second, the end always."""

    async def hold(self, uow: Any) -> None:
        """Bind a unit of work to this run: until it ends nobody can give the job to another worker.

        Keep it short: a transaction that stands still for 20 s without a statement is ended by the database.

        Raises:  Superseded when that has happened already: nothing of the unit of work may be committed.
        """


class Superseded(Exception):
    """This run is not the job's run any more (it was taken over, cancelled or timed out): stop, commit nothing."""


@dataclass(frozen=True, slots=True)
class JobType:
    """One kind of job.

    key           the file's name; what is stored with each job, so never renamed
    title         what it does, in a few words, for lists and docs
    queue         where it runs unless the caller says otherwise
    arguments     a msgspec Struct (`forbid_unknown_fields=True`); JSON, no secrets: they are kept and shown
    run           the work; gives a JSON value that is kept as the result. Unavailable and unknown errors are tried
                  again, Refused and Misconfigured are final
    timeout_s     after that it is Failed (`timed_out`), also when its process died
    max_attempts  how often it is begun before an error is final
    is_cpu_bound  runs in a process of its own, without runtime; ended when cancelled or timed out
    is_installation  concerns every tenant: only the installation (tenant NIL) may enqueue or schedule it
    standing      the installation's schedule that comes with it
    """

    key: str
    title: str
    queue: str
    run: Callable[[JobContext, Any], Awaitable[Any]]
    arguments: type[msgspec.Struct] = NoArguments
    priority: int = 5
    timeout_s: int = 1800
    max_attempts: int = 3
    retry_first_s: float = 10.0
    retry_most_s: float = 600.0
    is_cpu_bound: bool = False
    is_installation: bool = False
    standing: Standing | None = None

    def __post_init__(self) -> None:
        """Refuse a type that could never run as it says."""
        if not (
            FIRST_PRIORITY <= self.priority <= LAST_PRIORITY
            and 1 <= self.timeout_s <= LONGEST_TIMEOUT_S
            and 1 <= self.max_attempts <= MOST_ATTEMPTS
            and 0 < self.retry_first_s <= self.retry_most_s
        ):
            raise Misconfigured("job_type", f"the job type {self.key} has a number out of range")


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A job that waits now. `is_new` is False when one with its dedup key was open or its planned time had its job."""

    id: UUID
    is_new: bool
    state: str


class Jobs(Protocol):
    """The port: enqueue by the key of a type, in the caller's transaction."""

    @property
    def types(self) -> Mapping[str, JobType]:
        """Every type this process knows."""

    async def enqueue(
        self,
        uow: Any,
        actor: Actor,
        type_key: str,
        arguments: Mapping[str, Any] | msgspec.Struct | None = None,
        *,
        queue: str | None = None,
        priority: int | None = None,
        dedup_key: str | None = None,
        run_at: datetime | None = None,
        schedule_id: UUID | None = None,
        planned_at: datetime | None = None,
    ) -> Enqueued:
        """As `outrider.domain.jobs.enqueue.enqueue`; Refused(unknown_job_type) for a key nobody knows."""


class NoJobs:
    """The port of a process that enqueues nothing."""

    types: Mapping[str, JobType] = {}

    async def enqueue(self, *_args: Any, **_more: Any) -> Enqueued:
        """Refuse."""
        raise Misconfigured("no_jobs", "this process was started without job types")
