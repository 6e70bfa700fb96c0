"""Take messages by SMTP from programs that speak nothing else; off unless OUTRIDER_SUBMISSION_PORT is set."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from outrider.app import wiring
from outrider.app.processes import run_process
from outrider.app.signals import Stop, ready
from outrider.base.errors import Misconfigured
from outrider.interfaces.submission import serve

APP = App(name="submission")


@APP.default
def submission(
    *,
    lifeline: Annotated[bool, Parameter(show=False, negative="")] = False,
) -> int:
    """Run the SMTP intake on OUTRIDER_SUBMISSION_HOST and OUTRIDER_SUBMISSION_PORT.

    Parameters
    ----------
    lifeline
        Also stop when stdin ends; used by `outrider up`.
    """
    if wiring.settings().submission_port is None:
        raise Misconfigured("submission_off", "set OUTRIDER_SUBMISSION_PORT to the port it should listen on")

    async def work(stop: Stop) -> None:
        async with wiring.runtime("submission", is_warm=False) as runtime:
            await serve(runtime, ready=ready, stop=stop.event)

    return run_process("submission", work, grace_s=wiring.settings().grace_s, lifeline=lifeline)
