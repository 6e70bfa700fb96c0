"""The life of one process that stays: logging, the fast event loop, signals, its work, its end.

Owns what `worker`, `api` and `sandbox` have in common; each command file adds its work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import uvloop

from outrider import __version__
from outrider.app import wiring
from outrider.app.signals import Stop, stopping
from outrider.data import log
from outrider.interfaces.cli import exits

Work = Callable[[Stop], Awaitable[None]]
HARD_AFTER_S: Final = 10.0
"""Beyond the grace of the work itself."""
_log = structlog.get_logger(__name__)


def run_process(role: str, work: Work, *, grace_s: float, lifeline: bool) -> int:
    """Run a role until it is told to stop.

    Gives:   0 after an orderly stop. What `work` raises goes to the shell, which prints it in one line.
    """
    log.configure(wiring.settings(), role)

    async def live() -> int:
        with stopping(grace_s + HARD_AFTER_S, lifeline=lifeline) as stop:
            _log.info("starting", version=__version__)
            await work(stop)
            _log.info("stopped")
        return exits.OK

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(live())
