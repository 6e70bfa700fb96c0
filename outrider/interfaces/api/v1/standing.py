"""How a tenant's messages stand: shares of each state, reasons, sends per minute."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.messages import standing
from outrider.domain.messages.standing import MOST_MESSAGES, MOST_MINUTES, Standing
from outrider.interfaces.auth import Principal, needs

Minutes = Annotated[
    Annotated[int, msgspec.Meta(ge=1, le=MOST_MINUTES)] | None,
    QueryParameter(description="Messages accepted in the last minutes; an hour unless said otherwise."),
]
Last = Annotated[
    Annotated[int, msgspec.Meta(ge=1, le=MOST_MESSAGES)] | None,
    QueryParameter(description="The last so many messages instead."),
]


@get("/messages/stats", guards=[needs("viewer", "messages:read")])
async def stats(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    minutes: FromQuery[Minutes] = None,
    last: FromQuery[Last] = None,
) -> Standing:
    """Say how messages stand by state, why some failed, and how many go a minute; of the last minutes, or so many."""
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        return await standing.of_tenant(uow.raw, principal.tenant_id, minutes=minutes, last=last)


ROUTES = [stats]
