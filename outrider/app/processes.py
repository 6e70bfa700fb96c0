"""The life of one process that stays: logging, the fast event loop, signals, its work, its end.

Owns what `worker`, `api` and `sandbox` have in common; each command file adds its work.
"""

from __future__ import annotations

import asyncio
import gc
import resource
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import uvloop

from outrider import __version__
from outrider.app import wiring
from outrider.app.signals import Stop, stopping
from outrider.base.errors import Misconfigured
from outrider.data import log
from outrider.interfaces.cli import exits

Work = Callable[[Stop], Awaitable[None]]
WANTED_FILES: Final = 16_384
_LEAST_FILES: Final = 128
HARD_AFTER_S: Final = 10.0
"""Beyond the grace of the work itself."""
_COLLECT_AT: Final = (10_000, 5, 5)
"""Objects in flight are many and end by themselves, in no ring; looking through all of them for rings at the default
thresholds took 8 % of a busy worker's time, a tenth of a second at a time. Rings of at most 250,000 objects wait."""
_log = structlog.get_logger(__name__)


def run_process(role: str, work: Work, *, grace_s: float, lifeline: bool) -> int:
    """Run a role until it is told to stop.

    Gives:   0 after an orderly stop. What `work` raises goes to the shell, which prints it in one line.
    """
    log.configure(wiring.settings(), role)
    _take_room()
    gc.freeze()  # what is loaded stays: nobody has to look through it
    gc.set_threshold(*_COLLECT_AT)

    async def live() -> int:
        with stopping(grace_s + HARD_AFTER_S, lifeline=lifeline) as stop:
            _log.info("starting", version=__version__)
            await work(stop)
            _log.info("stopped")
        return exits.OK

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(live())


def _take_room() -> None:
    """Take as many open files as the system allows; refuse to run where connections would soon fail.

    Raises:  Misconfigured(open_files).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < _LEAST_FILES:
        raise Misconfigured(
            "open_files", f"this process may open only {wanted} files; it needs {_LEAST_FILES}: raise `ulimit -n`"
        )
