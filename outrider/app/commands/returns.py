"""Take back by SMTP what could not be delivered, and complaints; off unless OUTRIDER_RETURNS_PORT is set."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from outrider.app import wiring
from outrider.app.processes import run_process
from outrider.app.signals import Stop, ready
from outrider.base.errors import Misconfigured
from outrider.interfaces.returns import serve

APP = App(name="returns")


@APP.default
def returns(
    *,
    lifeline: Annotated[bool, Parameter(show=False, negative="")] = False,
) -> int:
    """Take returns on OUTRIDER_RETURNS_HOST and OUTRIDER_RETURNS_PORT.

    Parameters
    ----------
    lifeline
        Also stop when stdin ends; used by `outrider up`.
    """
    if wiring.settings().returns_port is None:
        raise Misconfigured("returns_off", "set OUTRIDER_RETURNS_PORT to the port it should listen on")

    async def work(stop: Stop) -> None:
        async with wiring.runtime("returns", is_warm=False) as runtime:
            await serve(runtime, ready=ready, stop=stop.event)

    return run_process("returns", work, grace_s=wiring.settings().grace_s, lifeline=lifeline)
