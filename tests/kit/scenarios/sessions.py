"""Drills about database sessions that are ended: in the middle of each kind of transaction, and again and again [F28].

Each gives what the checker found: nothing with the product as it is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import asyncpg

from tests.kit.audience import write_csv
from tests.kit.drill import Drill
from tests.kit.processes import BOUND_S, is_stopped, say, until
from tests.kit.scenarios.acceptance import client_of
from tests.kit.scenarios.databases import submitting

CONNECTIONS = 4
_SLOW = {"action": "slow", "stage": "dot", "delay_ms": 5}
_IN_THE_MIDDLE = """
SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                      WHERE datname = current_database() AND application_name LIKE $1 || '%'
                        AND state LIKE 'idle in transaction%') t
"""
_ONE = """
SELECT pg_terminate_backend(pid), is_in_transaction FROM (
  SELECT pid, xact_start IS NOT NULL AS is_in_transaction FROM pg_stat_activity
  WHERE datname = current_database() AND application_name LIKE 'outrider worker%'
  ORDER BY (xact_start IS NULL), random() LIMIT 1) t
"""
"""One of the workers', and one that has a transaction under way when there is any."""

# From which pass on sessions are cut at a point, until one was.
_WORKER = {"claim.judged": 2, "claim.before_commit": 4, "record.before_commit": 3, "fan_out.before_checkpoint": 2}
_API = {"accept.before_commit": 2}
_IMPORT = {"import.looked": 1, "import.batch": 2}
_WHOSE = {
    **dict.fromkeys(_WORKER, "outrider worker"),
    **dict.fromkeys(_API, "outrider api"),
    **dict.fromkeys(_IMPORT, "outrider cli"),
}
"""By whom a point is passed, as the database knows them."""
_FROM = {**_WORKER, **_API, **_IMPORT}

_EACH_S = 0.5
"""Two sessions a second."""


@dataclass(slots=True)
class Cuts:
    """Ends what a process has open at points where it stands still (SIGSTOP), and lets it go on."""

    connection: asyncpg.Connection
    logs: list[Path] = field(default_factory=list)
    """Failpoint logs that are watched."""
    ended: Counter[str] = field(default_factory=Counter)
    """Sessions that were ended at each point."""
    _seen: Counter[Path] = field(default_factory=Counter)

    @classmethod
    @asynccontextmanager
    async def watching(cls, drill: Drill) -> AsyncIterator[Cuts]:
        """Watch until the block ends."""
        made = cls(await drill.db.connect())
        is_over = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(made._run(is_over))
                yield made
                is_over.set()
        finally:
            await made.connection.close()

    async def _run(self, is_over: asyncio.Event) -> None:
        while not is_over.is_set():
            for log in self.logs:
                await self._look(log)
            await asyncio.sleep(0.01)

    async def _look(self, log: Path) -> None:
        for point, count, _, pid in self._new(log):
            await until(lambda: is_stopped(int(pid)), what=f"it stands still at {point}")  # noqa: B023 - asked at once
            # Not once for all at the nth pass: a cut at another point may just have taken this one's session along.
            if int(count) >= _FROM[point] and not self.ended[point]:
                self.ended[point] += await self.connection.fetchval(_IN_THE_MIDDLE, _WHOSE[point])
            os.kill(int(pid), signal.SIGCONT)

    def _new(self, log: Path) -> list[list[str]]:
        """Lines that were not seen yet: point, count, action, process."""
        lines = log.read_text().splitlines()[self._seen[log] :] if log.exists() else []
        self._seen[log] += len(lines)
        return [line.split() for line in lines]


async def cut_in_the_middle(drill: Drill) -> list[str]:
    """Sessions are ended inside a claim, record, fan-out, submission and import: each is done again as a whole.

    What is on the wire then is known to its worker: although nobody promises to repeat, nothing is in doubt afterwards.
    """
    drill.faults(_SLOW)
    sender = await drill.sender("at_most_once", connections=CONNECTIONS)
    people, recipients = 10_001, 400
    path = write_csv(drill.folder / "people.csv", ["email"], ([f"i{n}@example.org"] for n in range(people)))
    log = drill.folder / "import.hits"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(BOUND_S)) as session, Cuts.watching(drill) as cuts:
        client = await client_of(drill, session)
        api = drill.start("api", at=_armed(_API))
        worker = drill.start_worker(at=_armed(_WORKER), claim_batch="20", expand_batch="100")
        cuts.logs += [log, api.hits_path, worker.hits_path]
        await asyncio.gather(api.ready(), worker.ready())
        await drill.admit(sender, 300)
        campaign = await drill.campaign(sender, recipients)
        importing = _importing(drill, path, log)
        try:
            for number in range(4):
                await client.insist(api, f"call-{number}")
            await until(lambda: importing.poll() is not None, what="the end of the import", bound_s=4 * BOUND_S)
        finally:
            importing.kill()
            _, said = importing.communicate()
        await drill.drained(bound_s=4 * BOUND_S)
    points = [*_WORKER, *_API, *_IMPORT]
    assert all(cuts.ended[point] for point in points), f"not cut in all of {points}: {cuts.ended}"
    found = [] if worker.lives() and api.lives() else ["F28: a process ended because its session did"]
    if importing.returncode:
        found.append(f"F28: the import ended with {importing.returncode}: {said[-300:]}")
    if (rows := await drill.value("SELECT count(*) FROM addresses WHERE address LIKE 'i%@example.org'")) != people:
        found.append(f"F28: {rows} of {people} people are there")
    if (queued := await drill.value("SELECT count(*) FROM messages WHERE campaign_id = $1", campaign)) != recipients:
        found.append(f"I7: the campaign queued {queued} of {recipients}")
    return found + await drill.violations()


async def cut_again_and_again(drill: Drill, *, cuts: int) -> list[str]:
    """Two sessions a second are ended, for as long as `cuts` take, while clients submit and workers send: it goes on.

    How much goes meanwhile of what went before is said, not judged: on a machine that others use it says nothing.
    """
    drill.faults(_SLOW)
    sender = await drill.sender("at_least_once", connections=CONNECTIONS)
    workers = await asyncio.gather(drill.worker(), drill.worker())
    connection = await drill.db.connect()
    ended: list[bool] = []

    async def cut() -> None:
        row = await connection.fetchrow(_ONE)
        ended.extend([row["is_in_transaction"]] if row is not None else [])
        await drill.accepted(1)  # work goes on after each

    try:
        async with submitting(drill, sender):
            await drill.accepted(50)
            before = await _rate(drill, cuts, _nothing)
            during = await _rate(drill, cuts, cut)
    finally:
        await connection.close()
    await drill.drained(bound_s=4 * BOUND_S)
    told = f"{len(ended)} sessions ended, {sum(ended)} in a transaction: {during:.0f} messages/s, before {before:.0f}"
    say(f"{told}, {during / max(before, 1):.2f} x")
    assert len(ended) >= cuts * 0.95, f"{len(ended)} of {cuts} sessions were ended"
    found = [] if all(worker.lives() for worker in workers) else ["F28: a worker ended because its session did"]
    return found + await drill.violations()


async def statements_of_the_api_fail(drill: Drill, *, calls: int) -> list[str]:
    """F42: every third write of the API loses a deadlock or is overtaken: no caller hears of it, nothing goes twice."""
    await drill.execute_as_login(_TRIP)
    found: list[str] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(BOUND_S)) as session:
        client = await client_of(drill, session)
        api = await drill.start("api").ready()
        wanted = 0
        for number in range(calls):
            count = 1 + 2 * (number % 2)
            answer = await client.submit(api, f"call-{number}", count=count)
            drill.client.add(answer.ids)
            wanted += count
            if answer.status != _ACCEPTED or answer.is_replayed:
                found.append(f"F42: a submission was answered {answer.status}")
    failed = await drill.value("SELECT last_value / 3 FROM writes")
    assert failed >= calls // 3, f"{failed} statements failed: too few to prove anything"
    await drill.worker()
    await drill.drained()
    taken = [acceptance.message_id for acceptance in drill.acceptances()]
    if len(taken) != wanted:
        found.append(f"I1: {len(taken)} messages were sent, {wanted} were submitted")
    return found + await drill.violations()


_ACCEPTED = 202
_TRIP = """
SET ROLE outrider_owner;
CREATE SEQUENCE writes;
GRANT USAGE, SELECT ON SEQUENCE writes TO outrider_engine;
CREATE FUNCTION trip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF current_setting('application_name') LIKE 'outrider api%' AND nextval('writes') % 3 = 0 THEN
    RAISE EXCEPTION 'drill' USING ERRCODE = (ARRAY['40P01', '40001'])[1 + currval('writes') / 3 % 2];
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER trip AFTER INSERT ON queue FOR EACH STATEMENT EXECUTE FUNCTION trip();
"""
"""Deadlock, serialization failure: in turn."""


async def _rate(drill: Drill, turns: int, turn: Callable[[], Awaitable[None]]) -> float:
    """Messages that the provider took a second, over so many turns of half a second."""
    loop = asyncio.get_running_loop()
    began_s, taken = loop.time(), len(drill.acceptances())
    for _ in range(turns):
        await turn()
        await asyncio.sleep(_EACH_S)  # the pace of the fault
    return (len(drill.acceptances()) - taken) / (loop.time() - began_s)


async def _nothing() -> None:
    """The same time without a fault."""


def _armed(points: Iterable[str]) -> str:
    return ";".join(f"{point}:*:stop" for point in points)


def _importing(drill: Drill, path: Path, log: Path) -> subprocess.Popen[str]:
    """The command line, importing the file."""
    command = drill.command.with_(OR_FAILPOINT=_armed(_IMPORT), OR_FAILPOINT_LOG=str(log))
    return command.start("contacts", "import", str(path), "--consent-source", "form", stdout=subprocess.DEVNULL)
