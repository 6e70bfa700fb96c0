"""What providers reported, what was refused, what people wrote; replaying, and exceptions for a while."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from cyclopts import App

from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.contracts.callbacks import Reports
from outrider.data.db import Role
from outrider.domain.callbacks import look
from outrider.domain.callbacks.address import callback_url, signer_of
from outrider.domain.contacts import read
from outrider.engine.inbound import conversation
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.commands.connection import find, vault_of
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.plugged import channels
from outrider.interfaces.cli.work import changing, looking, note, wired

APP = App(name="callbacks")
EventState = Literal["new", "parked", "applied", "orphan", "unknown", "unknown_number"]
_EVENTS = ("received_at", "provider", "word", "state", "note", "repeats", "signature", "source", "id")
_REFUSALS = ("minute", "connection_id", "source", "reason", "count")
_EXCEPTIONS = ("network", "ends_at", "connection_id", "reason", "created_by", "id")
_INBOUND = ("received_at", "address", "number", "word", "is_flagged", "text", "reply")
_TURNS = ("at", "direction", "channel", "address", "state", "word", "text", "reply")


@APP.command(name="list")
async def list_(
    *,
    state: EventState | None = None,
    repeated: bool = False,
    connection: str | None = None,
    signature: Literal["genuine", "excepted"] | None = None,
    source: str | None = None,
    since: str | None = None,
    until: str | None = None,
    limit: Limit = 50,
    options: Common = COMMON,
) -> Answer:
    """List what providers told, newest first.

    Example: `outrider callbacks list --connection texts --limit 20`

    Parameters
    ----------
    state
        Only those in this state: orphans, unknown numbers …
    repeated
        Only what was told more than once.
    connection
        Only what came for this connection: its name or id.
    signature
        Only what was signed as it should be, or was taken without (excepted).
    source
        Only what came from this address.
    since
        Only what came from this moment on, such as 2027-01-31T00:00:00Z.
    until
        Only what came before this moment.
    """
    begin = campaigns.moment(since, field="--since") if since is not None else None
    end = campaigns.moment(until, field="--until") if until is not None else None
    async with wired(options) as (runtime, work):
        of = (await find(work, vault_of(runtime), connection)).id if connection is not None else None
        found = await look.events(
            work.uow, limit=limit, state=state, repeated=repeated, connection_id=of, signature=signature,
            source=source, since=begin, until=end,
        )  # fmt: skip
    return _rows(found, _EVENTS, "no callbacks")


@APP.command
async def refusals(*, limit: Limit = 50, options: Common = COMMON) -> Answer:
    """List callbacks that were not taken, by minute, source and reason.

    Example: `outrider callbacks refusals`
    """
    async with looking(options) as work:
        found = await look.refusals(work.uow, limit=limit)
    return _rows(found, _REFUSALS, "none was refused")


@APP.command
async def replay(*ids: str, options: Changing = CHANGING) -> Answer:
    """Apply stored reports again, by their ids; applying one twice changes nothing.

    Example: `outrider callbacks replay ID --reason "mended"`
    """
    wanted = [parse_id(each, "ids") for each in ids]
    async with changing(options, role=Role.ENGINE) as work:
        count = await look.replay(work.uow, work.actor, ids=wanted, reason=options.reason)
    return Answer({"count": count}, note(f"{count} are applied again", dry_run=options.dry_run))


@APP.command
async def allow(network: str, *, connection: str, minutes: int = 60, options: Changing = CHANGING) -> Answer:
    """Take callbacks from a network without a right signature for some minutes; needs --reason.

    Example: `outrider callbacks allow 203.0.113.7/32 --connection texts --minutes 30 --reason "their new address"`

    Parameters
    ----------
    network
        An address, or a network such as 192.0.2.0/24.
    connection
        Name or id of the connection.
    minutes
        For how long, a day at most.
    """
    if not options.reason.strip() or options.reason == "not given":
        raise Refused("required", "say why: whoever is excepted can say anything about messages", field="--reason")
    async with wired(options) as (runtime, work):
        vault = vault_of(runtime)
        found = await find(work, vault, connection)
        made = await look.allow(work.uow, vault, work.actor, found.id, network, minutes=minutes, reason=options.reason)
    text = f"callbacks from {made.network} are taken until {made.ends_at:%Y-%m-%d %H:%M} UTC"
    return Answer(msgspec.to_builtins(made), note(text, dry_run=options.dry_run))


@APP.command
async def exceptions(*, ended: bool = False, options: Common = COMMON) -> Answer:
    """List networks whose callbacks are taken without a right signature.

    Example: `outrider callbacks exceptions`

    Parameters
    ----------
    ended
        Also those that are over.
    """
    async with looking(options) as work:
        found = await look.exceptions(work.uow, with_ended=ended)
    return _rows(found, _EXCEPTIONS, "no exceptions")


@APP.command
async def disallow(exception: str, *, options: Changing = CHANGING) -> Answer:
    """End an exception now, by its id.

    Example: `outrider callbacks disallow ID --reason "they are done"`
    """
    async with changing(options) as work:
        await look.end(work.uow, work.actor, parse_id(exception, "exception"))
    return Answer({"id": exception}, note("the exception is over", dry_run=options.dry_run))


@APP.command
async def url(connection: str, *, options: Common = COMMON) -> Answer:
    """Show the address under which the provider of a connection is to report, and to which answers of people go.

    Example: `outrider callbacks url texts`

    Parameters
    ----------
    connection
        Its name or id.
    """
    async with wired(options) as (runtime, work):
        found = await find(work, vault_of(runtime), connection)
        if not isinstance(runtime.providers[found.provider], Reports):
            raise Refused("not_for_provider", f"the provider {found.provider} does not report by itself")
        signer, public_url = signer_of(runtime.keyring), runtime.settings.public_url
        text = callback_url(signer, public_url, found.provider, found.settings, work.tenant_id, found.id)
    return Answer({"url": text, "provider": found.provider}, text)


@APP.command
async def inbound(*, flagged: bool = False, limit: Limit = 50, options: Common = COMMON) -> Answer:
    """List what people wrote, newest first.

    Example: `outrider callbacks inbound --limit 20`

    Parameters
    ----------
    flagged
        Only what holds a word to stop among others: somebody should read it.
    """
    async with looking(options) as work:
        found = await look.inbound(work.uow, limit=limit, flagged=flagged)
    return _rows(found, _INBOUND, "nobody wrote")


@APP.command(name="conversation")
async def talked(who: str, *, channel: str = "sms", limit: Limit = 50, options: Common = COMMON) -> Answer:
    """Show what was sent to somebody and what they wrote, newest first, texts with their words.

    Example: `outrider callbacks conversation +61412345001`

    Parameters
    ----------
    who
        An address of theirs.
    channel
        Whose address it is.
    """
    async with wired(options) as (runtime, work):
        contact = await read.by_address(work.uow, channels(), channel, who)
        if contact is None:
            raise Refused("not_found", "nobody has this address", field="who", status=404)
        found = await conversation.with_contact(runtime, work.tenant_id, contact.id, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    shown = [{**row, "text": "(not shown)" if row["is_withheld"] else row["text"]} for row in rows]
    return Answer(rows, table(shown, _TURNS, empty="nothing was said"))


def _rows(found: Any, columns: tuple[str, ...], empty: str) -> Answer:
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, columns, empty=empty))
