"""The do-not-contact list of a tenant, and for administrators of the installation the one that holds for all.

Addresses travel in bodies, never in URLs.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Annotated

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody, QueryParameter

from outrider.base.errors import Refused
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.contacts import suppressions
from outrider.domain.contacts.views import SuppressionView
from outrider.domain.limits.reasons import clean_reason
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

Filter = Annotated[str, QueryParameter(max_length=40, description="Exact value; empty for all.")]
Ours = Annotated[bool, QueryParameter(description="The installation's list, for its administrators.")]


class AddressIn(msgspec.Struct, forbid_unknown_fields=True):
    """An address, typed in any form its channel understands."""

    address: str
    channel: str = "email"


class SuppressionIn(AddressIn, forbid_unknown_fields=True):
    """An address that must not be contacted. scope bulk lets transactional messages through."""

    scope: suppressions.Scope = "all"
    reason: suppressions.Reason = "manual"
    note: Annotated[str, msgspec.Meta(max_length=500)] = ""
    is_installation: bool = False


class EntryIn(AddressIn, forbid_unknown_fields=True):
    """One of several addresses that must not be contacted."""

    scope: suppressions.Scope = "all"
    reason: suppressions.Reason = "manual"
    note: Annotated[str, msgspec.Meta(max_length=500)] = ""


class SuppressionsIn(msgspec.Struct, forbid_unknown_fields=True):
    """Up to 5,000 addresses, taken all or none; a mistake is named by its place."""

    entries: Annotated[list[EntryIn], msgspec.Meta(min_length=1, max_length=suppressions.MOST_AT_ONCE)]
    is_installation: bool = False


class RemovalIn(AddressIn, forbid_unknown_fields=True):
    """An address that may be contacted again. Where the recipient asked not to be, force and a reason are needed."""

    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""
    force: bool = False
    is_installation: bool = False


class SuppressionsOut(msgspec.Struct):
    """What stands against an address: the tenant's entry and the installation's."""

    items: list[SuppressionView]


class AddedOut(msgspec.Struct):
    """Whether the entry is new or became stronger, and what stands against the address now."""

    changed: bool
    items: list[SuppressionView]


class AddedManyOut(msgspec.Struct):
    """How many were given, and how many entries are new or became stronger."""

    count: int
    changed_count: int


@get("/suppressions", guards=[needs("viewer", "suppressions:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    channel: FromQuery[Filter] = "",
    reason: FromQuery[Filter] = "",
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[SuppressionView]:
    """List the do-not-contact list by channel and hash of the address."""
    after = read_cursor(cursor, tuple[str, Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]])
    async with _unit(runtime, principal, is_installation=is_installation) as uow:
        items = await suppressions.listed(uow, limit=limit, after=after, channel=channel or None, reason=reason or None)
    return page(items, limit, cursor_of(items[-1].channel, items[-1].address_hash) if items else "")


@post("/suppressions", status_code=200, guards=[needs("support", "suppressions:write")])
async def added(
    data: JSONBody[SuppressionIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> AddedOut:
    """Put an address on the do-not-contact list; an entry never becomes weaker by this."""
    async with _unit(runtime, principal, is_installation=data.is_installation) as uow:
        changed = await suppressions.suppress(
            uow,
            runtime.channels,
            principal.actor,
            data.channel,
            data.address,
            scope=data.scope,
            reason=data.reason,
            source=f"api:{principal.actor.kind}",
            note=data.note,
        )
        return AddedOut(
            changed, _shown(principal, await suppressions.lookup(uow, runtime.channels, data.channel, data.address))
        )


@post("/suppressions/batch", status_code=200, guards=[needs("support", "suppressions:write")])
async def added_many(
    data: JSONBody[SuppressionsIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> AddedManyOut:
    """Put up to 5,000 addresses on the do-not-contact list, all or none; entries never become weaker by this."""
    entries = [suppressions.Entry(one.channel, one.address, one.scope, one.reason, one.note) for one in data.entries]
    async with _unit(runtime, principal, is_installation=data.is_installation) as uow:
        changed = await suppressions.suppress_many(
            uow, runtime.channels, principal.actor, entries, source=f"api:{principal.actor.kind}"
        )
    return AddedManyOut(len(entries), changed)


@post("/suppressions/lookup", status_code=200, guards=[needs("support", "suppressions:write")])
async def lookup(
    data: JSONBody[AddressIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> SuppressionsOut:
    """Say what stands against an address, typed in any form."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return SuppressionsOut(
            _shown(principal, await suppressions.lookup(uow, runtime.channels, data.channel, data.address))
        )


@post("/suppressions/remove", status_code=204, guards=[needs("support", "suppressions:write")])
async def removed(
    data: JSONBody[RemovalIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> None:
    """Take an address from the do-not-contact list; consent that was withdrawn stays withdrawn."""
    if data.reason:
        clean_reason(data.reason)
    async with _unit(runtime, principal, is_installation=data.is_installation) as uow:
        await suppressions.unsuppress(
            uow,
            runtime.channels,
            principal.actor,
            data.channel,
            data.address,
            reason=data.reason,
            force=data.force,
        )


def _shown(principal: Principal, items: list[SuppressionView]) -> list[SuppressionView]:
    """Entries as this caller may know them: the installation's without who made them and what they noted."""
    if principal.is_installation_admin:
        return items
    return [
        msgspec.structs.replace(one, note="", source="", created_by="installation") if one.is_installation else one
        for one in items
    ]


def _unit(runtime: Runtime, principal: Principal, *, is_installation: bool) -> AbstractAsyncContextManager[UnitOfWork]:
    """The unit of work of the list meant.

    Raises:  Refused(forbidden, 403) for the installation's list without its rights.
    """
    if not is_installation:
        return runtime.db.uow(Role.APP, principal.tenant_id)
    if not principal.is_installation_admin:
        raise Refused("forbidden", "only administrators of the installation may do this", status=403)
    return runtime.db.uow(Role.ENGINE)


ROUTES = [listed, added, added_many, lookup, removed]
