"""Drills about event loops that stand still: somebody is told, with the place, and nobody takes anything over [F18].

Each gives what the checker found: nothing with the product as it is.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any

import aiohttp

from outrider.engine.stalls import STALLED_S
from tests.kit.drill import Drill, Guarantee, boot_ns
from tests.kit.processes import BOUND_S, Process, until
from tests.kit.scenarios.acceptance import client_of
from tests.kit.standstills import stood_still_s

CONNECTIONS = 4
LEASE_S = 10
"""Half of it may be all that is left of the lease of a worker that lives."""
STANDS_S = LEASE_S + 4
_API_STANDS_S = 8


async def of_a_worker(drill: Drill, guarantee: Guarantee, point: str = "send.before_bytes:20") -> list[str]:
    """A worker's loop is blocked for longer than a lease, beside another worker that would take its messages over.

    point: where, and how often it has been there by then. Before a commit it holds the rows that it records.
    """
    sender = await drill.sender(guarantee, connections=CONNECTIONS)
    await drill.admit(sender, 60)
    began_ns = boot_ns()
    blocked = drill.start_worker(at=f"{point}:sleep:{STANDS_S}", own_data=True)
    await until(lambda: len(blocked.hits()) >= int(point.rpartition(":")[2]), what="the worker stands still")
    other = await drill.worker(own_data=True)
    await drill.drained()
    found = await _told(blocked, "failpoint.py", STANDS_S, began_ns)
    found += [f"F18: {each.name} took over" for each in (blocked, other) if "leases_swept" in each.log.read_text()]

    async def is_known() -> bool:
        row = await drill.rows("SELECT stalled_s FROM workers WHERE pid = $1", blocked.process.pid)
        return bool(row and row[0]["stalled_s"] is not None)

    await until(is_known, what="the record of the process says so")
    return found + await drill.violations()


async def of_the_api(drill: Drill) -> list[str]:
    """The loop of the API is blocked around a commit; who asks gets an answer afterwards, once."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(BOUND_S)) as session:
        client = await client_of(drill, session)
        api = await drill.start("api", at=f"accept.before_commit:1:sleep:{_API_STANDS_S}").ready()
        began_ns = boot_ns()
        await client.insist(api, "one")
        found = await _told(api, "failpoint.py", _API_STANDS_S, began_ns)
    await drill.worker()
    await drill.drained()
    return found + await drill.violations()


async def of_nobody(drill: Drill) -> list[str]:
    """Every process that stays has the figures, and they are nothing while its loop turns."""
    found: list[str] = []
    for process in (await drill.worker(), await drill.scheduler(), await drill.start("api").ready()):
        count = (await _figures(process)).get("outrider_loop_stalls_total")
        if count is None:
            found.append(f"F18: {process.name} does not say how often it stood still")
    return found


async def _told(process: Process, place: str, stands_s: float, began_ns: int) -> list[str]:
    """Whether the log of a process and its figures tell that it stood still, and where, once.

    What stands still with the whole machine is not the loop's, and the process leaves it out.
    """
    await process.ready()
    await until(lambda: _lines(process, "loop_turns_again"), what="it says that it goes on")
    told = _lines(process, "loop_stalled")
    found = (
        [] if any(place in at for line in told for at in line["frames"]) else [f"F18: the place is not told: {told}"]
    )
    over = _lines(process, "loop_turns_again")
    least_s = max(STALLED_S, stands_s / 2 - stood_still_s(began_ns))
    if not any(line["stood_s"] >= least_s for line in over):
        found.append(f"F18: it does not say for how long: {over}")
    figures = await _figures(process)
    if figures.get("outrider_loop_stalls_total", 0) < 1 or figures.get("outrider_loop_stalled_seconds_total", 0) < 1:
        found.append(f"F18: the figures do not tell: {figures}")
    return found


def _lines(process: Process, event: str) -> list[dict[str, Any]]:
    found = [line for line in process.log.read_text().splitlines() if f'"{event}"' in line]
    return [json.loads(line) for line in found]


async def _figures(process: Process) -> dict[str, float]:
    """What a process says at its /metrics, without labels."""

    def ask() -> str:
        with urllib.request.urlopen(f"{process.where}/metrics", timeout=BOUND_S) as answer:  # noqa: S310 - our own
            text: str = answer.read().decode()
            return text

    rows = [line.rpartition(" ") for line in (await asyncio.to_thread(ask)).splitlines() if not line.startswith("#")]
    return {name.partition("{")[0]: float(value) for name, _, value in rows}
