"""Take back by SMTP what could not be delivered, and complaints; off unless OUTRIDER_RETURNS_PORT is set."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from outrider.app import wiring
from outrider.app.listeners import run_listener
from outrider.base.errors import Misconfigured
from outrider.interfaces.returns import serve

APP = App(name="returns", help_epilogue="Example: `outrider returns`")


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
    return run_listener("returns", serve, lifeline=lifeline)
