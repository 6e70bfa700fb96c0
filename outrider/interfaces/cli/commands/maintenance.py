"""Maintenance: nothing is sent anywhere while it is on; messages stay queued."""

from __future__ import annotations

import msgspec
from cyclopts import App

from outrider.base.ids import NIL
from outrider.data.db import Role
from outrider.domain.limits import maintenance, switches
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, Changing
from outrider.interfaces.cli.output import Answer
from outrider.interfaces.cli.work import note, within

APP = App(name="maintenance")


@APP.command
async def on(*, options: Changing = CHANGING) -> Answer:
    """Turn maintenance on and wait until claims that began before are over.

    Example: `outrider maintenance on --reason "new disks"`
    """
    async with doors().database() as db:
        async with within(db, None, role=Role.ENGINE, dry_run=options.dry_run, reason=options.reason) as work:
            state = await maintenance.maintenance_on(work.uow, work.actor, options.reason)
        if not options.dry_run:
            await switches.settle(db, "installation", NIL, str(NIL))
    text = "maintenance is on" if state.changed else "maintenance was on already"
    return Answer(msgspec.to_builtins(state), note(text, dry_run=options.dry_run))


@APP.command
async def off(*, yes: Yes = False, options: Changing = CHANGING) -> Answer:
    """Turn maintenance off. Asks first, because what waits goes out at once.

    Example: `outrider maintenance off`
    """
    if not options.dry_run:
        confirm("ending maintenance sends what is waiting", "off", yes=yes)
    async with (
        doors().database() as db,
        within(db, None, role=Role.ENGINE, dry_run=options.dry_run, reason=options.reason) as work,
    ):
        state = await maintenance.maintenance_off(work.uow, work.actor, options.reason)
    text = "maintenance is off" if state.changed else "maintenance was off already"
    return Answer(msgspec.to_builtins(state), note(text, dry_run=options.dry_run))
