"""Contacts: import a CSV file, look somebody up, list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter

from outrider.base.ids import parse_id
from outrider.domain.contacts import read
from outrider.domain.contacts.imports.options import Dates, Options
from outrider.domain.messages import bounces as soft_bounces
from outrider.domain.segments import rules, segments
from outrider.interfaces.cli import campaigns, importing, named
from outrider.interfaces.cli.addressed import AnyChannel
from outrider.interfaces.cli.options import COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.work import looking

APP = App(name="contacts")


@APP.command(name="import")
async def import_(
    file: Path,
    *,
    list_: Annotated[str | None, Parameter(name="--list")] = None,
    channel: str = "email",
    consent: Literal["granted", "withdrawn"] | None = None,
    consent_source: str = "",
    purpose: str = "marketing",
    map_: Annotated[list[str] | None, Parameter(name="--map")] = None,
    dates: Dates | None = None,
    region: str = "",
    errors: Path | None = None,
    options: Changing | None = None,
) -> Answer:
    """Import a CSV file; rows that cannot be taken are told one by one, the others go on.

    An interrupted import goes on where it was when the same file is imported again. --dry-run walks the whole file,
    counts what would happen and shows what would change. `outrider imports undo` takes an import back.

    Parameters
    ----------
    file
        The CSV file, UTF-8, with a header line.
    list_
        Put everybody on this list; made when there is none of this name.
    channel
        Which channel the addresses belong to.
    consent
        What you assert for rows that say nothing themselves; needs --consent-source.
    consent_source
        Where this consent is known from.
    purpose
        What the consent is for.
    map_
        header=field, several times: address, name, external_id, timezone, locale, consent, tags, attributes, ignore,
        attribute:key.
    dates
        How 01/02/2026 is read where an attribute holds a day; without it such rows are refused.
    region
        Country in which telephone numbers without + are read; else the tenant's default_region.
    errors
        Write every refused row to this CSV file (mode 0600).
    """
    asked = Options(
        channel=channel,
        consent=consent,
        consent_source=consent_source,
        purpose=purpose,
        mapping=importing.mapping_of(map_),
        dates=dates,
    )
    return await importing.take(file, asked, options or Changing(), list_name=list_, errors=errors, region=region)


@APP.command
async def show(who: str, *, channel: AnyChannel = None, options: Common = COMMON) -> Answer:
    """Show one contact with addresses and consent.

    Parameters
    ----------
    who
        An address in any form, or the contact's id.
    """
    async with looking(options) as work:
        contact = await named.contact(work.uow, who, channel)
    data = msgspec.to_builtins(contact)
    shown = {
        **{name: data[name] for name in ("id", "external_id", "name", "timezone", "locale", "created_at")},
        "attributes": msgspec.json.encode(data["attributes"]).decode(),
        "addresses": ", ".join(f"{each['channel']}:{each['address']}" for each in data["addresses"]),
        "consent": ", ".join(f"{each['channel']} {each['purpose']}: {each['status']}" for each in data["consents"]),
    }
    return Answer(data, facts(shown))


@APP.command
async def bounces(who: str, *, channel: AnyChannel = None, options: Common = COMMON) -> Answer:
    """Show which messages came back for now; too many put an address on the do-not-contact list.

    Parameters
    ----------
    who
        An address in any form, or the contact's id.
    """
    async with looking(options) as work:
        contact = await named.contact(work.uow, who, channel)
        found = await soft_bounces.of_contact(work.uow, contact.id)
    rows = [msgspec.to_builtins(each) for each in found]
    columns = ("at", "channel", "address", "cause", "detail", "is_used", "message_id")
    return Answer(rows, table(rows, columns, empty="nothing came back for now"))


@APP.command(name="list")
async def list_contacts(*, limit: Limit = 100, after: str | None = None, options: Common = COMMON) -> Answer:
    """List contacts in the order they were made.

    Parameters
    ----------
    after
        The id of the last contact seen.
    """
    async with looking(options) as work:
        found = await read.listed(work.uow, limit=limit, after=parse_id(after, "--after") if after else None)
    rows = [msgspec.to_builtins(each) for each in found]
    shown = [{**row, "address": ", ".join(each["address"] for each in row["addresses"])} for row in rows]
    return Answer(rows, table(shown, ("id", "name", "address", "external_id", "created_at"), empty="no contacts"))


@APP.command
async def search(
    text: str = "",
    *,
    tag: Annotated[list[str] | None, Parameter(negative="")] = None,
    segment: str | None = None,
    limit: Limit = 100,
    after: str | None = None,
    options: Common = COMMON,
) -> Answer:
    """Search contacts by a text in name, external id or an address, by tags, by a segment, or all of them.

    Parameters
    ----------
    text
        What to look for, whatever the case.
    tag
        Only who has this tag; several times: one of them.
    segment
        Only whom this segment holds for.
    after
        The id of the last contact seen.
    """
    wanted: list[rules.Rule] = [rules.Anywhere(text)] if text else []
    if tag:
        wanted.append(rules.Tag(tag))
    async with looking(options) as work:
        if segment is not None:
            wanted.append(rules.InSegment(await campaigns.segment_id(work.uow, segment)))
        last = parse_id(after, "--after") if after else None
        found = await segments.contacts(work.uow, rules.AllOf(wanted), limit=limit, after=last)
    rows = [msgspec.to_builtins(each) for each in found]
    shown = [{**row, "address": ", ".join(each["address"] for each in row["addresses"])} for row in rows]
    return Answer(rows, table(shown, ("id", "name", "address", "external_id", "created_at"), empty="nobody"))
