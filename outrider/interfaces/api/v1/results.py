"""Results: who opened and clicked, machines apart from people, by hour, link, domain and content."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from outrider.base.ids import parse_id
from outrider.base.moments import moment
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.tracking import results
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

_READ = needs("viewer", "campaigns:read")
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
_INSTANT = timedelta(microseconds=1)
"""Hours after it, the first one included."""
Since = Annotated[datetime | None, QueryParameter(description="Only hours that begin at this moment or later.")]
Until = Annotated[datetime | None, QueryParameter(description="Only hours that begin before this moment.")]


@get("/campaigns/{campaign_id:str}/results", guards=[_READ])
async def of_campaign(
    campaign_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> results.Results:
    """Say what became of a campaign: sent, opened, clicked; people counted once, machines apart."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await results.of_campaign(uow, parse_id(campaign_id, "campaign_id"))


@get("/campaigns/{campaign_id:str}/results/hours", guards=[_READ])
async def by_hour(
    campaign_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 168,
    cursor: FromQuery[Cursor] = "",
) -> Page[results.ByHour]:
    """List what happened hour by hour (UTC), oldest first; hours in which nothing happened are left out."""
    after = read_cursor(cursor, tuple[datetime])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        found = await results.by_hour(
            uow,
            parse_id(campaign_id, "campaign_id"),
            after=after[0] if after else _EVER,
            before=_NEVER,
            limit=limit,
        )
    return page(found, limit, cursor_of(found[-1].hour) if found else "")


@get("/campaigns/{campaign_id:str}/results/links", guards=[_READ])
async def by_link(
    campaign_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[results.ByLink]:
    """List links by how many people followed them."""
    after = read_cursor(cursor, tuple[int, str])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        found = await results.by_link(uow, parse_id(campaign_id, "campaign_id"), limit=limit, after=after)
    return page(found, limit, cursor_of(found[-1].people, found[-1].key) if found else "")


@get("/campaigns/{campaign_id:str}/results/domains", guards=[_READ])
async def by_domain(
    campaign_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[results.ByDomain]:
    """List recipients' domains, those with most messages first, and what people there did."""
    after = read_cursor(cursor, tuple[int, str])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        found = await results.by_domain(uow, parse_id(campaign_id, "campaign_id"), limit=limit, after=after)
    return page(found, limit, cursor_of(found[-1].sent, found[-1].domain) if found else "")


@get("/campaigns/{campaign_id:str}/results/contents", guards=[_READ])
async def by_content(
    campaign_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> list[results.ByContent]:
    """Compare the contents that a campaign sent."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await results.by_content(uow, parse_id(campaign_id, "campaign_id"))


@get("/results/hours", guards=[_READ])
async def of_tenant(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    since: FromQuery[Since] = None,
    until: FromQuery[Until] = None,
    limit: FromQuery[Limit] = 168,
    cursor: FromQuery[Cursor] = "",
) -> Page[results.ByHour]:
    """List what happened in the whole tenant hour by hour (UTC), oldest first."""
    after = read_cursor(cursor, tuple[datetime])
    first = after[0] if after else (moment(since, "?since") or _EVER) - _INSTANT
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        found = await results.by_hour(uow, None, after=first, before=moment(until, "?until") or _NEVER, limit=limit)
    return page(found, limit, cursor_of(found[-1].hour) if found else "")


@get("/messages/{message_id:str}/responses", guards=[needs("viewer", "messages:read")])
async def of_message(
    message_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> list[results.Noticed]:
    """Say what is known of one message: when it was opened and which links were followed, how often, by whom."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await results.of_message(uow, parse_id(message_id, "message_id"))


ROUTES = [of_campaign, by_hour, by_link, by_domain, by_content, of_tenant, of_message]
