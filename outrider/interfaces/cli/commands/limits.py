"""Send rates: how many messages a second a tenant, a sender, a connection or a destination may have at most."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.data.db import Role
from outrider.domain.limits import buckets, destinations
from outrider.domain.messages import holds
from outrider.domain.senders import connections
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import Work, changing, looking, note, within

APP = App(name="limits")

_COLUMNS = ("scope", "scope_id", "rate_per_s", "burst")
_DESTINATION_COLUMNS = ("channel", "destination", "rate_per_s", "burst", "is_own")
Scope = Annotated[
    Literal["tenant", "sender", "connection"], Parameter(help="The whole tenant, one sender, or one connection.")
]
Which = Annotated[str | None, Parameter(help="With scope sender or connection: its name or id.")]
Destination = Annotated[str, Parameter(help="A mail domain, gmail.com; with --channel sms a country, AU.")]
Channel = Annotated[Literal["email", "sms"], Parameter(help="Whose destination it is.")]
Rate = Annotated[str, Parameter(help="Most messages a second on average: 0.001 to 1,000,000.")]
Burst = Annotated[str | None, Parameter(help="Most at once; one second's worth when absent.")]
Installation = Annotated[
    bool, Parameter(negative="", help="For every tenant that has no rate of its own for this destination.")
]


@APP.command(name="set")
async def set_(
    scope: Scope,
    which: Which = None,
    *,
    rate: Rate,
    burst: Burst = None,
    options: Changing = CHANGING,
) -> Answer:
    """Limit a tenant, a sender or a connection; holds for every worker from the commit on.

    Example: `outrider limits set sender shop --rate 50 --burst 100`
    """
    rate_per_s, most = _bound(rate, burst)
    async with changing(options) as work:
        scope_id = await _place(work, scope, which)
        try:
            made = await buckets.set_rate(
                work.uow, work.actor, scope, scope_id, rate_per_s, most, reason=options.reason
            )
        except Refused as error:
            field = {"/rate_per_s": "--rate", "/burst": "--burst"}.get(error.field or "", error.field)
            raise Refused(error.code, error.message, field=field, status=error.http_status) from None
    text = f"{scope} {which or work.tenant_id}: at most {made.rate_per_s:g} a second, {made.burst:g} at once"
    return Answer(msgspec.to_builtins(made), note(text, dry_run=options.dry_run))


@APP.command
async def clear(scope: Scope, which: Which = None, *, options: Changing = CHANGING) -> Answer:
    """Take a limit away; what is not limited goes as fast as its provider takes it.

    Example: `outrider limits clear sender shop`
    """
    async with changing(options) as work:
        scope_id = await _place(work, scope, which)
        was = await buckets.clear(work.uow, work.actor, scope, scope_id, reason=options.reason)
    text = f"{scope} {which or work.tenant_id} is unlimited" + ("" if was else ", as before")
    data: dict[str, Any] = {"scope": scope, "scope_id": scope_id, "was": msgspec.to_builtins(was)}
    return Answer(data, note(text, dry_run=options.dry_run))


@APP.command(name="list")
async def list_(*, options: Common = COMMON) -> Answer:
    """List the limits of a tenant, its senders and its connections; what is not listed is unlimited.

    Example: `outrider limits list`
    """
    async with looking(options) as work:
        found = await buckets.listed(work.uow)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, _COLUMNS, empty="no limits"))


@APP.command(name="set-destination")
async def set_destination(
    destination: Destination,
    *,
    channel: Channel = "email",
    rate: Rate,
    burst: Burst = None,
    installation: Installation = False,
    options: Changing = CHANGING,
) -> Answer:
    """Limit how fast a mail domain, or the texts of a country, are sent to; what it held is asked about again.

    Example: `outrider limits set-destination gmail.com --rate 20`
    """
    rate_per_s, most = _bound(rate, burst)
    async with _for(options, installation=installation) as work:
        made, whose = await destinations.set_rate(
            work.uow, work.actor, channel, destination, rate_per_s, most, reason=options.reason
        )
    await _release(options, whose, made.destination)
    text = f"{made.destination}: at most {made.rate_per_s:g} a second, {made.burst:g} at once"
    return Answer(msgspec.to_builtins(made), note(text, dry_run=options.dry_run))


@APP.command(name="clear-destination")
async def clear_destination(
    destination: Destination,
    *,
    channel: Channel = "email",
    installation: Installation = False,
    options: Changing = CHANGING,
) -> Answer:
    """Take the rate of a destination away; a tenant's own gives place to the installation's.

    Example: `outrider limits clear-destination gmail.com`
    """
    name = destinations.clean(channel, destination)
    async with _for(options, installation=installation) as work:
        was, whose = await destinations.clear(work.uow, work.actor, channel, destination, reason=options.reason)
    await _release(options, whose, name)
    whose_rate = "the installation" if installation else "this tenant"
    text = f"{name} has no rate of {whose_rate}" + ("" if was else ", as before")
    data: dict[str, Any] = {"channel": channel, "destination": name, "was": msgspec.to_builtins(was)}
    return Answer(data, note(text, dry_run=options.dry_run))


@APP.command(name="destinations")
async def destinations_(*, options: Common = COMMON) -> Answer:
    """List the rates of destinations that hold for a tenant, its own and the installation's.

    Example: `outrider limits destinations`
    """
    async with looking(options) as work:
        found = await destinations.listed(work.uow)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, _DESTINATION_COLUMNS, empty="no destination is limited"))


async def _place(work: Work, scope: str, which: str | None) -> UUID:
    """The id of what is limited."""
    if scope == "tenant":
        if which is not None:
            raise Refused("invalid_choice", "a tenant is named by --tenant", field="which")
        return work.tenant_id
    if which is None:
        raise Refused("required", f"name the {scope}", field="which")
    if scope == "connection":
        return await connections.id_of(work.uow, which, field="which")
    return await campaigns.sender_id(work.uow, which, field="which")


@asynccontextmanager
async def _for(options: Changing, *, installation: bool) -> AsyncIterator[Work]:
    """A unit of work of the tenant, or of the installation."""
    if not installation:
        async with changing(options, role=Role.ENGINE) as work:
            yield work
        return
    async with (
        doors().database() as db,
        within(db, NIL, role=Role.ENGINE, dry_run=options.dry_run, reason=options.reason) as work,
    ):
        yield work


async def _release(options: Changing, whose: Iterable[UUID], destination: str) -> None:
    """What the rate before held is judged by the one that holds now."""
    if options.dry_run:
        return
    async with doors().database() as db:
        for tenant_id in whose:
            async with db.uow(Role.ENGINE, tenant_id) as uow:
                await holds.release(uow, f"{destinations.GATE}: {destination}")


def _bound(rate: str, burst: str | None) -> tuple[float, float | None]:
    return _number(rate, "--rate"), None if burst is None else _number(burst, "--burst")


def _number(text: str, field: str) -> float:
    """A number as people write it; what is none is refused before the bounds are looked at."""
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Refused("invalid_number", "must be a number such as 20 or 0.5", field=field)
    return value
