"""The audit log: reading and verifying it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.audit import listing
from outrider.domain.audit.verify import verify
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

Filter = Annotated[str, QueryParameter(max_length=320, description="Exact value; empty for all.")]


class Verification(msgspec.Struct):
    """Whether the chain is whole; `problem` and `at_seq` say where it breaks."""

    tenant_id: UUID
    is_whole: bool
    count: int
    first_seq: int
    last_seq: int
    problem: str
    at_seq: int | None


@get("/audit", guards=[needs("admin", "audit:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
    action: FromQuery[Filter] = "",
    actor: FromQuery[Filter] = "",
    target_id: FromQuery[Filter] = "",
) -> Page[listing.LoggedEntry]:
    """List what was done, newest first."""
    before = read_cursor(cursor, tuple[Annotated[int, msgspec.Meta(ge=0, le=listing.NEWEST)]])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        found = await listing.listed(
            uow,
            before_seq=before[0] if before else listing.NEWEST,
            limit=limit,
            action=action,
            actor=actor,
            target=target_id,
        )
    return page(found, limit, cursor_of(found[-1].seq) if found else "")


@get("/audit/verify", guards=[needs("admin", "audit:read")])
async def verified(principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]) -> Verification:
    """Walk this tenant's chain and report the first break or a cut tail."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        found = await verify(uow, principal.tenant_id)
    return Verification(
        found.tenant_id,
        found.is_whole,
        found.count,
        found.first_seq,
        found.last_seq,
        found.problem,
        found.at_seq,
    )


ROUTES = [listed, verified]
