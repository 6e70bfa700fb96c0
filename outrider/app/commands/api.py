"""Serve the API until told to stop."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from outrider.app import wiring
from outrider.app.processes import run_process
from outrider.app.signals import Stop, ready
from outrider.interfaces.api.application import serve

APP = App(name="api", help_epilogue="Example: `outrider api`")


@APP.default
def api(
    *,
    lifeline: Annotated[bool, Parameter(show=False, negative="")] = False,
) -> int:
    """Run the API on OUTRIDER_API_HOST and OUTRIDER_API_PORT."""

    async def work(stop: Stop) -> None:
        async with wiring.runtime("api", is_warm=False) as runtime:
            await serve(runtime, ready=ready, stop=stop.event)

    return run_process("api", work, grace_s=wiring.settings().grace_s, lifeline=lifeline)
