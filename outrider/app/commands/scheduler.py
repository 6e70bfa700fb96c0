"""Fire schedules and run jobs until told to stop (SIGTERM: what is being run ends or goes back into its queue)."""

from __future__ import annotations

import logging
import os
from typing import Annotated

from cyclopts import App, Parameter

from outrider.app import wiring
from outrider.app.processes import run_process
from outrider.app.signals import Stop, ready
from outrider.engine.jobs.run import SchedulerOptions, run
from outrider.engine.scheduling.run import loops, register

APP = App(name="scheduler", help_epilogue="Example: `outrider scheduler`")


@APP.default
def scheduler(
    *,
    lifeline: Annotated[bool, Parameter(show=False, negative="")] = False,
) -> int:
    """Run one scheduler; several may run side by side.

    Parameters
    ----------
    lifeline
        Also stop when stdin ends; used by `outrider up`.
    """
    is_clean = True

    async def work(stop: Stop) -> None:
        nonlocal is_clean
        async with wiring.runtime("scheduler", is_warm=False) as runtime:
            options = SchedulerOptions(
                health_host=runtime.settings.worker_health_host, health_port=runtime.settings.scheduler_health_port
            )
            await register(runtime, runtime.jobs)
            is_clean = await run(
                runtime, options=options, stop=stop.event, ready=ready, loops=loops(runtime, runtime.jobs)
            )

    code = run_process("scheduler", work, grace_s=wiring.settings().grace_s, lifeline=lifeline)
    if not is_clean:
        logging.shutdown()
        os._exit(code)  # a thread of the job library waits for a database that is away; it holds nothing of worth
    return code
