"""Take messages by SMTP from programs that speak nothing else; off unless OUTRIDER_SUBMISSION_PORT is set."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from outrider.app import wiring
from outrider.app.listeners import run_listener
from outrider.base.errors import Misconfigured
from outrider.interfaces.submission import serve

APP = App(name="submission", help_epilogue="Example: `outrider submission`")


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
    return run_listener("submission", serve, lifeline=lifeline)
