"""Senders: who messages come from, through which connection, and how doubtful attempts are treated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.data.names import NameSystem
from outrider.domain.senders import dns_check, received, records, senders
from outrider.domain.senders import fallbacks as fallback_list
from outrider.domain.senders.dns_check import Check
from outrider.domain.senders.senders import DkimIn, NewSender, SenderChange, SenderView
from outrider.interfaces.cli import campaigns, exits, named
from outrider.interfaces.cli.commands.connection import find, vault_of
from outrider.interfaces.cli.options import CHANGING, COMMON, JSON, Changing, Common, Json, Limit, readable_file
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import changing, looking, note, wired

APP = App(name="sender")

_COLUMNS = ("id", "name", "channel", "from_address", "from_name", "transactional_guarantee", "bulk_guarantee")
Guarantee = Literal["at_least_once", "at_most_once"]


@APP.command
async def create(
    name: str,
    *,
    connection: str,
    from_: Annotated[str, Parameter(name="--from")],
    from_name: str = "",
    reply_to: str = "",
    return_path: str = "",
    postal_address: str = "",
    public_url: str = "",
    tracking_url: str = "",
    dkim: list[str] | None = None,
    opt_out_line: str | None = None,
    transactional: Guarantee | None = None,
    bulk: Guarantee = "at_most_once",
    options: Changing = CHANGING,
) -> Answer:
    """Make a sender.

    Example: `outrider sender create shop --connection mx --from "Shop <shop@example.org>"`

    Parameters
    ----------
    name
        What you call it.
    connection
        Name or id of the connection it sends through.
    from_
        The From address, also as `Name <address>`.
    from_name
        The name beside it.
    reply_to
        Where answers go, if not to the From address.
    return_path
        Where bounces go, if not to the From address.
    postal_address
        The postal address that bulk messages must show.
    public_url
        Base of its links, such as https://mail.example.org, where it is not the installation's.
    tracking_url
        Base of its tracked links, where it is another.
    opt_out_line
        What ends bulk texts of an SMS sender; "" for nothing, else it says to reply STOP.
    dkim
        A signing key as domain:selector:file.pem, several times.
    transactional
        What happens to a transactional message whose answer was lost: sent again with the same Message-ID, or kept;
        an email is sent again unless you say otherwise, a text is not.
    bulk
        The same for bulk messages.
    """
    keys = [_dkim(each) for each in dkim or ()]
    async with wired(options) as (runtime, work):
        vault = vault_of(runtime)
        found = await find(work, vault, connection)
        made = await senders.create(
            work.uow,
            runtime.channels,
            vault,
            work.actor,
            NewSender(
                name=name,
                connection_id=found.id,
                from_address=from_,
                from_name=from_name,
                reply_to=reply_to,
                return_path=return_path,
                postal_address=postal_address,
                public_url=public_url,
                tracking_url=tracking_url,
                opt_out_line=opt_out_line,
                dkim=keys,
                transactional_guarantee=transactional,
                bulk_guarantee=bulk,
            ),
        )
    return _told(made, f"made sender {made.name} ({made.id})", options)


@APP.command
async def update(
    which: str,
    *,
    name: str | None = None,
    connection: str | None = None,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    from_name: str | None = None,
    reply_to: str | None = None,
    return_path: str | None = None,
    postal_address: str | None = None,
    public_url: str | None = None,
    tracking_url: str | None = None,
    opt_out_line: str | None = None,
    dkim: list[str] | None = None,
    transactional: Guarantee | None = None,
    bulk: Guarantee | None = None,
    options: Changing = CHANGING,
) -> Answer:
    """Change a sender; what is not named stays. Queued messages, too, come from what it says when they are sent.

    Example: `outrider sender update shop --reply-to help@example.org`

    Parameters
    ----------
    which
        Its name or id.
    name
        Its new name.
    connection
        Name or id of the connection it sends through.
    from_
        The From address.
    from_name
        The name beside it.
    reply_to
        Where answers go; empty for the From address.
    return_path
        Where bounces go; empty for the From address.
    postal_address
        The postal address that bulk messages must show.
    public_url
        Base of its links, such as https://mail.example.org, where it is not the installation's.
    tracking_url
        Base of its tracked links, where it is another.
    opt_out_line
        What ends bulk texts of an SMS sender; "" for nothing.
    dkim
        A signing key as domain:selector:file.pem, or domain:selector for one it has; several times. Replaces all.
    transactional
        What happens to a transactional message whose answer was lost: sent again with the same Message-ID, or kept.
    bulk
        The same for bulk messages.
    """
    given: dict[str, Any] = {
        "name": name,
        "from_address": from_,
        "from_name": from_name,
        "reply_to": reply_to,
        "return_path": return_path,
        "postal_address": postal_address,
        "public_url": public_url,
        "tracking_url": tracking_url,
        "opt_out_line": opt_out_line,
        "dkim": None if dkim is None else [_dkim(each, may_be_known=True) for each in dkim],
        "transactional_guarantee": transactional,
        "bulk_guarantee": bulk,
    }
    given = {field: value for field, value in given.items() if value is not None}
    if not given and connection is None:
        raise Refused("required", "name what to change, such as --from-name")
    async with wired(options) as (runtime, work):
        vault = vault_of(runtime)
        sender_id = await campaigns.sender_id(work.uow, which, field="which")
        if connection is not None:
            given["connection_id"] = (await find(work, vault, connection)).id
        made = await senders.update(
            work.uow, runtime.channels, vault, work.actor, sender_id, SenderChange(**given), reason=options.reason
        )
    return _told(made, f"sender {made.name} is changed", options)


@APP.command
async def fallbacks(
    which: str,
    connections: list[str] | None = None,
    *,
    none: Annotated[bool, Parameter(negative="")] = False,
    options: Changing = CHANGING,
) -> Answer:
    """Say which connections take over, in this order, when a sender's own cannot be reached; without any: show them.

    Example: `outrider sender fallbacks shop mx-2 mx-3`

    Parameters
    ----------
    which
        The sender's name or id.
    connections
        Names or ids of connections, first one first.
    none
        Nothing shall take over.
    """
    if none and connections:
        raise Refused("conflict", "give connections or --none, not both", field="none")
    async with wired(options) as (runtime, work):
        vault = vault_of(runtime)
        sender_id = await campaigns.sender_id(work.uow, which, field="which")
        if none or connections:
            wanted = [(await find(work, vault, each)).id for each in connections or ()]
            found = await fallback_list.choose(work.uow, vault, work.actor, sender_id, wanted, reason=options.reason)
        else:
            found = await fallback_list.get(work.uow, sender_id)
    told = ", ".join(str(each) for each in found.fallback_ids) or "nothing takes over"
    return Answer(msgspec.to_builtins(found), note(told, dry_run=options.dry_run and bool(none or connections)))


@APP.command
async def archive(which: str, *, options: Changing = CHANGING) -> Answer:
    """Take a sender out of use for what is new; what was accepted before is still sent.

    Example: `outrider sender archive shop`

    Parameters
    ----------
    which
        Its name or id.
    """
    return await _archived(which, options, is_archived=True)


@APP.command
async def restore(which: str, *, options: Changing = CHANGING) -> Answer:
    """Take a sender into use again.

    Example: `outrider sender restore shop`

    Parameters
    ----------
    which
        Its name or id.
    """
    return await _archived(which, options, is_archived=False)


async def _archived(which: str, options: Changing, *, is_archived: bool) -> Answer:
    async def page(after: UUID | None, limit: int) -> list[SenderView]:
        return await senders.listed(work.uow, limit=limit, after=after, with_archived=True)

    async with changing(options) as work:
        found = await named.find(which, "sender", page, field="which")
        made = await senders.archive(work.uow, work.actor, found.id, is_archived=is_archived)
    done = f"sender {made.name} is {'out of use' if is_archived else 'in use'}"
    return Answer(msgspec.to_builtins(made), note(done, dry_run=options.dry_run))


@APP.command
async def dns(which: str, *, check: bool = True, options: Common = COMMON) -> Answer:
    """Show the DNS records a sender needs, and whether they are there. Exit 1 when one fails; sends nothing.

    Example: `outrider sender dns shop`

    Parameters
    ----------
    which
        Its name or id.
    check
        Also ask the name servers.
    """
    async with wired(options) as (runtime, work):
        sender_id = await campaigns.sender_id(work.uow, which, field="which")
        domains = await records.domains_of(work.uow, vault_of(runtime), runtime.settings, sender_id)
        servers = runtime.settings.dns_servers
    rows = [msgspec.to_builtins(each) for each in records.wanted(domains)]
    parts = ["to set:", *(f"  {row['type']} {row['name']}\n    {row['value']}\n    {row['purpose']}" for row in rows)]
    if not check:
        return Answer({"records": rows}, "\n".join(parts))
    found = await dns_check.checked(domains, NameSystem(servers))
    parts += ["found:", *(told_check(each) for each in found)]
    is_good = dns_check.is_good(found)
    data = {"is_ok": is_good, "checks": [msgspec.to_builtins(each) for each in found], "records": rows}
    return Answer(data, "\n".join(parts), exits.OK if is_good else exits.CHECK_FAILED)


@APP.command(name="received")
def received_(file: Path, *, options: Json = JSON) -> Answer:
    """Read in a mail that arrived what its receiver found: SPF, DKIM, DMARC, spam. Exit 1 when one fails.

    Example: `outrider sender received arrived.eml`

    Parameters
    ----------
    file
        The mail, or its header alone, saved with its source (in most mail programs: show original, save as .eml).
    """
    del options
    found = received.checked(readable_file(file, "file").read_bytes())
    is_good = dns_check.is_good(found)
    data = {"is_ok": is_good, "checks": [msgspec.to_builtins(each) for each in found]}
    text = "\n".join(told_check(each) for each in found)
    return Answer(data, text, exits.OK if is_good else exits.CHECK_FAILED)


def told_check(check: Check) -> str:
    """One check as a line, its remedy below it."""
    line = f"  {check.verdict:<7}  {check.subject} {check.name}: {check.detail}"
    return f"{line}\n           -> {check.remedy}" if check.remedy else line


@APP.command(name="list")
async def list_(*, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List senders.

    Example: `outrider sender list`
    """
    async with looking(options) as work:
        found = await senders.listed(work.uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, _COLUMNS, empty="no senders"))


def _told(sender: SenderView, done: str, options: Changing) -> Answer:
    """What was done, and what is worth mending."""
    lines = [note(done, dry_run=options.dry_run), *(f"warning: {each}" for each in sender.warnings)]
    return Answer(msgspec.to_builtins(sender), "\n".join(lines))


def _dkim(text: str, *, may_be_known: bool = False) -> DkimIn:
    domain, _, rest = text.partition(":")
    selector, has_file, path = rest.partition(":")
    if not domain or not selector or (not has_file and not may_be_known):
        raise Refused("invalid_dkim", f"{text[:80]!r} is not domain:selector:file.pem", field="--dkim")
    if not has_file:
        return DkimIn(domain=domain, selector=selector)
    pem = readable_file(Path(path), "--dkim").read_text(encoding="ascii", errors="replace")
    return DkimIn(domain=domain, selector=selector, private_key_pem=pem)
