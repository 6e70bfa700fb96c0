"""What a running job gets: who it is, its progress, its fence."""

from __future__ import annotations

import time
from typing import Any, Protocol
from uuid import UUID

from outrider.base.errors import Unavailable
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.jobs import running
from outrider.domain.jobs.running import Begun, RunId
from outrider.engine.jobs.words import redacted

PROGRESS_EVERY_S = 1.0
LONGEST_NOTE = 200


class Held(Protocol):
    """What the executor knows of a run."""

    run: RunId
    token: UUID
    is_cancelled: bool


class Context:
    """`outrider.contracts.jobs.JobContext` of a job that runs in this process."""

    def __init__(self, runtime: Runtime, held: Held, begun: Begun) -> None:
        self.runtime = runtime
        self._held = held
        self._begun = begun
        self._written_at: float | None = None
        self._unwritten: tuple[int, int | None] | None = None

    @property
    def run(self) -> RunId:
        """Which run it is."""
        return self._held.run

    @property
    def tenant_id(self) -> UUID:
        """Whose job it is."""
        return self._held.run.tenant_id

    @property
    def job_id(self) -> UUID:
        """The job."""
        return self._held.run.job_id

    @property
    def type_key(self) -> str:
        """The key of its type."""
        return self._begun.type

    @property
    def attempt(self) -> int:
        """Which attempt this is."""
        return self._begun.attempt

    @property
    def created_by(self) -> str:
        """Who enqueued it."""
        return self._begun.created_by

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked to cancel it."""
        return self._held.is_cancelled

    async def progress(self, done: int, total: int | None = None, note: str = "") -> None:
        """Write how far it is, at most once a second; the last word is written with the end of the run.

        Raises:  Superseded when the job is not this run's any more.
        """
        self._unwritten = (done, total)
        now = time.monotonic()
        if self._written_at is not None and now - self._written_at < PROGRESS_EVERY_S:
            return
        self._written_at = now
        try:
            async with self.runtime.db.uow(Role.ENGINE) as uow:
                await running.progress(
                    uow, self._held.run, self._held.token, done, total, redacted(note)[:LONGEST_NOTE]
                )
        except Unavailable:
            return  # it is only a figure; the work itself meets the database soon enough
        self._unwritten = None

    async def hold(self, uow: UnitOfWork) -> None:
        """Bind a unit of work to this run.

        Raises:  Superseded.
        """
        await running.hold(uow, self._held.run, self._held.token)

    def last_words(self) -> tuple[int | None, int | None]:
        """Progress that has not been written yet."""
        return self._unwritten or (None, None)

    def facts(self) -> dict[str, Any]:
        """What a child process is told of the job."""
        return {
            "tenant_id": str(self.tenant_id),
            "job_id": str(self.job_id),
            "type": self.type_key,
            "attempt": self.attempt,
            "created_by": self.created_by,
        }
