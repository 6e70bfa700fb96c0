"""Procrastinate beside Outrider: jobs that do nothing, added and worked off; settings are one JSON argument.

Owns nothing but its own tables; runs in the environment of its folder. `schema` makes the tables, `add` adds jobs (in
bulk, by so many callers one at a time, or one every so often), `work` works them off from a line of input on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import time
from typing import Any

from procrastinate import App, PsycopgConnector

logging.disable(logging.ERROR)  # what it says per job would be measured too
SETTINGS: dict[str, Any] = json.loads(sys.argv[2])
app = App(connector=PsycopgConnector(conninfo=SETTINGS["url"], max_size=SETTINGS["connections"]))
done = 0
waits_ms: list[float] = []


def say(**answer: Any) -> None:
    """One JSON line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


@app.task(queue="bench")  # type: ignore[untyped-decorator]  # it is not installed where types are checked
async def nothing(at_ms: float) -> None:
    """The job."""
    global done  # noqa: PLW0603 - the counter of this process
    if SETTINGS["is_timed"]:
        waits_ms.append(time.time() * 1000 - at_ms)
    done += 1


async def schema() -> None:
    """Make the tables."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
    say(ready=True)


async def add() -> None:
    """Add jobs."""
    async with app.open_async():
        left = SETTINGS["jobs"]
        began_s = time.perf_counter()

        async def caller() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await nothing.defer_async(at_ms=time.time() * 1000)

        if SETTINGS["batch"] > 1:
            while left > 0:
                count = min(left, SETTINGS["batch"])
                await nothing.batch_defer_async(*({"at_ms": time.time() * 1000} for _ in range(count)))
                left -= count
        elif SETTINGS["every_ms"]:
            for _ in range(left):
                await nothing.defer_async(at_ms=time.time() * 1000)
                await asyncio.sleep(SETTINGS["every_ms"] / 1000 * random.uniform(0.5, 1.5))
        else:
            await asyncio.gather(*(caller() for _ in range(SETTINGS["callers"])))
    say(took_s=time.perf_counter() - began_s)


async def work() -> None:
    """Work jobs off and say how many are done."""
    async with app.open_async():
        say(ready=True)
        await asyncio.to_thread(sys.stdin.readline)
        async with asyncio.TaskGroup() as group:
            group.create_task(_report())
            group.create_task(
                app.run_worker_async(
                    queues=["bench"], concurrency=SETTINGS["concurrency"], install_signal_handlers=False
                )
            )


async def _report() -> None:
    reported = 0
    while True:
        await asyncio.sleep(0.01)
        if done != reported:
            reported = done
            told, waits_ms[:] = list(waits_ms), []
            say(done=reported, waits_ms=told)


if __name__ == "__main__":
    asyncio.run({"schema": schema, "add": add, "work": work}[sys.argv[1]]())
