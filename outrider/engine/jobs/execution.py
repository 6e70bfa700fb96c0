"""Executing runs on the event loop of the process: begin, work, end; each exactly fenced, whatever happens between.

Owns what is being run here and why it is stopped. Never claims: it is handed the ids of claimed runs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import msgspec
import structlog

from outrider.base import failpoint
from outrider.base.errors import Unavailable
from outrider.contracts.backoff import delay_s
from outrider.contracts.jobs import JobType, Superseded
from outrider.data.log import clean
from outrider.data.runtime import Runtime
from outrider.domain.jobs import running
from outrider.domain.jobs.running import Begun, Ending, RunId
from outrider.engine.jobs import process
from outrider.engine.jobs.context import Context
from outrider.engine.jobs.together import Act, Together
from outrider.engine.jobs.words import redacted, told

LARGEST_RESULT_BYTES = 64 * 1024
_LET_GO_S = 5.0
"""How long work that was told to stop may take before its end is recorded without it."""
_LONGEST_PAUSE_S = 2.0
_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Running:
    """One run of this process. `stop` is set with how it ends when it is not to end by itself."""

    run: RunId
    token: UUID = field(default_factory=uuid4)
    stop: asyncio.Future[Ending] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    is_cancelled: bool = False

    def end(self, ending: Ending) -> None:
        """Stop it; the first word counts."""
        if not self.stop.done():
            self.stop.set_result(ending)


class Executor:
    """Runs what it is handed.

    Takes:   types   key -> type: what this process can run
    """

    def __init__(self, runtime: Runtime, types: Mapping[str, JobType], worker_id: UUID) -> None:
        self._runtime = runtime
        self._types = types
        self._keys = sorted(types)
        self._worker_id = worker_id
        self._together = Together(runtime.db)
        self._is_stopping = False
        self.by_run: dict[str, Running] = {}
        self.finished = {"succeeded": 0, "failed": 0, "deleted": 0, "scheduled": 0, "enqueued": 0}
        self.fenced_count = 0

    async def run(self, run_id: str) -> None:
        """One claimed run from its begin to its end; never raises."""
        held = Running(RunId.parse(run_id))
        self.by_run[run_id] = held
        try:
            begun = await self._insist(
                lambda uow: running.begin(uow, held.run, held.token, self._worker_id, self._keys)
            )
            if begun is None:
                why = await self._insist(lambda uow: running.set_straight(uow, held.run, self._keys))
                _log.info("run_not_begun", run=run_id, why=why)
                return
            if failpoint.ARMED:
                failpoint.hit("job.begun")
            ending = await self._ended(held, begun)
            if failpoint.ARMED:
                failpoint.hit("job.worked")
            await self._finish(held, begun, ending)
        except Unavailable:
            # the process stops while the database is away: whoever lives takes the run over
            _log.warning("run_left_open", run=run_id)
        except Exception:  # noqa: BLE001 - the last resort of a run: logged with its trace; the reaper takes it over
            _log.exception("run_broke", run=run_id)
        finally:
            del self.by_run[run_id]

    def cancel(self, job_id: UUID) -> None:
        """Somebody wants this job to end."""
        for held in self.by_run.values():
            if held.run.job_id == job_id:
                held.is_cancelled = True
                held.end(Ending("deleted"))

    def lose_touch(self) -> None:
        """The database has not heard of this process for so long that others may take its jobs: stop all of them."""
        for held in self.by_run.values():
            held.end(Ending("enqueued", "its process lost touch with the database"))

    def hand_back(self) -> None:
        """The process stops: what has not ended goes back into its queue, the attempt not counted."""
        self._is_stopping = True
        for held in self.by_run.values():
            held.end(Ending("enqueued", "its process was stopped"))

    async def _ended(self, held: Running, begun: Begun) -> Ending:
        """Do the work; an end that cannot be told is a failure, or the job would be taken over and run for ever."""
        try:
            return await self._work(held, begun)
        except Exception:  # noqa: BLE001 - the last resort of the work: logged with its trace
            _log.exception("run_broke", run=str(held.run))
            return Ending("failed", "", None, "broken", "how it ended cannot be told; see the log")

    async def _work(self, held: Running, begun: Begun) -> Ending:
        """Do the work within its time; gives how the run ends."""
        if held.stop.done():
            return held.stop.result()
        job = self._types[begun.type]
        context = Context(self._runtime, held, begun)
        try:
            arguments = msgspec.json.decode(begun.arguments, type=job.arguments)
        except msgspec.ValidationError as error:
            return Ending(
                "failed", "", None, "invalid_arguments", redacted(f"the arguments do not fit the type: {error}")
            )
        work = asyncio.ensure_future(
            process.work(job, context, begun.arguments) if job.is_cpu_bound else job.run(context, arguments)
        )
        try:
            either: set[asyncio.Future[Any]] = {work, held.stop}
            await asyncio.wait(either, timeout=begun.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return self._outcome(job, begun, work, context)
            if held.stop.done():
                return held.stop.result()
            return Ending("failed", "", None, "timed_out", f"it took longer than {begun.timeout_s} s")
        finally:
            await self._let_go(work, held)

    @staticmethod
    async def _let_go(work: asyncio.Future[Any], held: Running) -> None:
        if work.done():
            return
        work.cancel()
        await asyncio.wait({work}, timeout=_LET_GO_S)
        if not work.done():
            _log.error("job_ignores_its_end", run=str(held.run))
        elif not work.cancelled() and (error := work.exception()) is not None:
            _log.info("job_ended_badly", run=str(held.run), error=type(error).__name__)

    def _outcome(self, job: JobType, begun: Begun, work: asyncio.Future[Any], context: Context) -> Ending:
        """How finished work ends its run."""
        done, total = context.last_words()
        error = asyncio.CancelledError() if work.cancelled() else work.exception()
        if error is None:
            result, problem = encoded(work.result())
            if problem is None:
                return Ending("succeeded", "", result, done=done, total=total)
            return Ending("failed", "", None, "invalid_result", problem, done=done, total=total)
        if isinstance(error, Superseded):
            return Ending("enqueued", "its run was taken over")  # fenced: nothing is written
        code, text, is_final = told(error)
        if not is_final and not isinstance(error, Unavailable):
            _log.error("job_failed", run=str(context.run), type=begun.type, exc_info=error)
        if is_final or begun.attempt >= begun.max_attempts:
            return Ending("failed", "", None, code, text, done=done, total=total)
        pause_s = delay_s(begun.attempt, "schedule", first_s=job.retry_first_s, most_s=job.retry_most_s) or 0.0
        reason = f"attempt {begun.attempt} of {begun.max_attempts}: {code}"
        return Ending("scheduled", reason, None, code, text, retry_in_s=pause_s, done=done, total=total)

    async def _finish(self, held: Running, begun: Begun, ending: Ending) -> None:
        try:
            state = await self._insist(lambda uow: running.finish(uow, held.run, held.token, self._worker_id, ending))
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - the database does not take what it says: it must end all the same
            _log.exception("ending_not_kept", run=str(held.run), ending=ending.state)
            failed = Ending("failed", "", None, "ending_not_kept", "how it ended could not be written; see the log")
            state = await self._insist(lambda uow: running.finish(uow, held.run, held.token, self._worker_id, failed))
            ending = failed
        if state is None:
            self.fenced_count += 1
            _log.warning("run_fenced", run=str(held.run), ending=ending.state)
            return
        self.finished[state] += 1
        level = _log.warning if state == "failed" else _log.info
        level("job_ended", run=str(held.run), type=begun.type, state=state, code=ending.error_code)

    async def _insist(self, act: Act) -> Any:
        """Do it, with what others do at the moment in one unit of work, again and again while the database is away.

        Raises:  Unavailable once the process is stopping.
        """
        pause_s = 0.1
        while True:
            try:
                return await self._together.do(act)
            except Unavailable:
                if self._is_stopping:
                    raise
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


def encoded(result: Any) -> tuple[str | None, str | None]:
    """A result as JSON without secrets, or what is wrong with it."""
    if result is None:
        return None, None
    try:
        text = msgspec.json.encode(clean(msgspec.to_builtins(result))).decode()
    except (TypeError, ValueError, RecursionError) as error:
        return None, f"the result is not JSON: {type(error).__name__}"
    if len(text) > LARGEST_RESULT_BYTES or "\\u0000" in text:
        return None, f"the result has {len(text)} bytes; at most {LARGEST_RESULT_BYTES}, without NUL characters"
    return text, None
