"""Claim, check, render and send messages until told to stop (SIGTERM: finishes or hands back what is under way)."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from outrider.app import wiring
from outrider.app.processes import run_process
from outrider.app.signals import Stop, ready
from outrider.engine.dispatch import bills, reconcile
from outrider.engine.dispatch.run import WorkerOptions, run
from outrider.engine.fanout import expand
from outrider.engine.inbound import reports, tracking
from outrider.engine.jobs import reap
from outrider.engine.maintenance import upkeep

APP = App(name="worker", help_epilogue="Example: `outrider worker`")


@APP.default
def worker(
    *,
    lifeline: Annotated[bool, Parameter(show=False, negative="")] = False,
) -> int:
    """Run one worker.

    Parameters
    ----------
    lifeline
        Also stop when stdin ends; used by `outrider up`.
    """

    async def work(stop: Stop) -> None:
        async with wiring.runtime("worker") as runtime:
            options = WorkerOptions(
                health_host=runtime.settings.worker_health_host, health_port=runtime.settings.worker_health_port
            )
            loops = [
                *expand.loops(runtime),
                *tracking.loops(runtime),
                *reports.loops(runtime),
                *reconcile.loops(runtime),
                *bills.loops(runtime),
                *upkeep.loops(runtime),
                *reap.loops(runtime),
            ]
            await run(runtime, worker=options, stop=stop.event, ready=ready, loops=loops)

    return run_process("worker", work, grace_s=wiring.settings().grace_s, lifeline=lifeline)
