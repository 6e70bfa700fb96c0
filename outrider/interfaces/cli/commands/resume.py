"""Let sending go on after a pause; what another scope has paused stays paused."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.interfaces.cli import emergency, switching
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.options import CHANGING, Changing
from outrider.interfaces.cli.output import Answer

APP = App(name="resume", help_epilogue="Example: `outrider resume sender shop`")


@APP.default
async def resume(
    scope: Literal["installation", "tenant", "channel", "sender", "campaign"] | None = None,
    which: str | None = None,
    *,
    every_tenant: Annotated[bool, Parameter(negative="")] = False,
    is_emergency: Annotated[bool, Parameter(name="--emergency", negative="")] = False,
    yes: Yes = False,
    options: Changing = CHANGING,
) -> Answer:
    """Let a scope send again. Asks first, because what waits goes out at once.

    Parameters
    ----------
    scope
        What to let go on.
    which
        The channel's name, or the name or id of the sender or campaign; a tenant is named by --tenant.
    every_tenant
        With scope channel: for every tenant.
    is_emergency
        Remove the local file that stops the workers of this machine.
    """
    if not is_emergency and scope is None:
        raise Refused("required", "name what to resume: installation, tenant, channel, sender, campaign", field="scope")
    if not options.dry_run:
        word = "emergency" if is_emergency else str(scope)
        confirm(f"resuming {word} sends what is waiting", word, yes=yes)
    if is_emergency:
        return emergency.end(options)
    return await switching.resume(str(scope), which, options, every_tenant=every_tenant)
