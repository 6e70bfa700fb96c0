"""Stop sending: the whole installation, a tenant, a channel, a sender or a campaign; what is queued stays queued."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.interfaces.cli import emergency, switching
from outrider.interfaces.cli.options import CHANGING, Changing
from outrider.interfaces.cli.output import Answer

APP = App(name="pause", help_epilogue='Example: `outrider pause sender shop --reason "wrong prices"`')


@APP.default
async def pause(
    scope: Literal["installation", "tenant", "channel", "sender", "campaign"] | None = None,
    which: str | None = None,
    *,
    every_tenant: Annotated[bool, Parameter(negative="")] = False,
    is_emergency: Annotated[bool, Parameter(name="--emergency", negative="")] = False,
    options: Changing = CHANGING,
) -> Answer:
    """Stop sending of a scope; returns when no claim begun before is still open. Pausing twice is no error.

    Parameters
    ----------
    scope
        What to stop.
    which
        The channel's name, or the name or id of the sender or campaign; a tenant is named by --tenant.
    every_tenant
        With scope channel: for every tenant.
    is_emergency
        Stop the workers of this machine by a local file, database or not; undone by `outrider resume --emergency`.
    """
    if is_emergency:
        return emergency.stop(options)
    if scope is None:
        raise Refused("required", "name what to stop: installation, tenant, channel, sender or campaign", field="scope")
    return await switching.pause(scope, which, options, every_tenant=every_tenant)
