"""Send rates: how many messages a second a tenant, or one of its senders, may send at most."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.domain.limits import buckets
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import Work, changing, looking, note

APP = App(name="limits")

_COLUMNS = ("scope", "scope_id", "rate_per_s", "burst")
Scope = Annotated[Literal["tenant", "sender"], Parameter(help="The whole tenant, or one sender.")]
Which = Annotated[str | None, Parameter(help="With scope sender: its name or id.")]


@APP.command(name="set")
async def set_(
    scope: Scope,
    which: Which = None,
    *,
    rate: str,
    burst: str | None = None,
    options: Changing = CHANGING,
) -> Answer:
    """Limit a tenant or a sender; holds for every worker from the commit on.

    Parameters
    ----------
    rate
        Most messages a second on average: 0.001 to 1,000,000.
    burst
        Most at once; one second's worth when absent.
    """
    rate_per_s, most = _number(rate, "--rate"), None if burst is None else _number(burst, "--burst")
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
    """Take a limit away; what is not limited goes as fast as its provider takes it."""
    async with changing(options) as work:
        scope_id = await _place(work, scope, which)
        was = await buckets.clear(work.uow, work.actor, scope, scope_id, reason=options.reason)
    text = f"{scope} {which or work.tenant_id} is unlimited" + ("" if was else ", as before")
    data: dict[str, Any] = {"scope": scope, "scope_id": scope_id, "was": msgspec.to_builtins(was)}
    return Answer(data, note(text, dry_run=options.dry_run))


@APP.command(name="list")
async def list_(*, options: Common = COMMON) -> Answer:
    """List the limits of a tenant and its senders; what is not listed is unlimited."""
    async with looking(options) as work:
        found = await buckets.listed(work.uow)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, _COLUMNS, empty="no limits"))


async def _place(work: Work, scope: str, which: str | None) -> UUID:
    """The id of what is limited."""
    if scope == "tenant":
        if which is not None:
            raise Refused("invalid_choice", "a tenant is named by --tenant", field="which")
        return work.tenant_id
    if which is None:
        raise Refused("required", "name the sender", field="which")
    return await campaigns.sender_id(work.uow, which, field="which")


def _number(text: str, field: str) -> float:
    """A number as people write it; what is none is refused before the bounds are looked at."""
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Refused("invalid_number", "must be a number such as 20 or 0.5", field=field)
    return value
