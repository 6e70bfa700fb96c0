"""The queue: depth and age by channel and state."""

from __future__ import annotations

import msgspec
from cyclopts import App

from outrider.data.db import Role
from outrider.domain.messages import stats
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import JSON, Json
from outrider.interfaces.cli.output import Answer, table

APP = App(name="queue")


@APP.command
async def status(*, options: Json = JSON) -> Answer:
    """Show how many messages wait, per channel and state, over all tenants, and since when."""
    del options
    async with doors().database() as db, db.uow(Role.ENGINE) as uow:
        found = await stats.queue_stats(uow.raw)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, ("channel", "state", "depth", "oldest_at"), empty="nothing waits"))
