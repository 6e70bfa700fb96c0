"""Contacts: import a CSV file, make and change one by hand, look somebody up, list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import App, Parameter
from msgspec import UNSET

from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.data.db import UnitOfWork
from outrider.domain.contacts import attributes, read, write
from outrider.domain.contacts.imports.options import Dates, Options
from outrider.domain.contacts.views import AddressView, ContactView
from outrider.domain.messages import bounces as soft_bounces
from outrider.domain.segments import rules, segments
from outrider.interfaces.cli import campaigns, importing, named
from outrider.interfaces.cli.addressed import AnyChannel, channel_of
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.plugged import channels
from outrider.interfaces.cli.work import changing, looking, note

APP = App(name="contacts")

Who = Annotated[str, Parameter(help="An address in any form, or the contact's id.")]
Readdress = Callable[..., Awaitable[ContactView]]
After = Annotated[str | None, Parameter(help="The id of the last contact seen.")]
Values = Annotated[
    list[str] | None,
    Parameter(
        name="--set",
        negative="",
        help="attribute=value, several times; read by what it is defined to hold, else as text.",
    ),
]


@APP.command
async def create(
    *addresses: str,
    name: str = "",
    external_id: str | None = None,
    set_: Values = None,
    timezone: str | None = None,
    locale: str | None = None,
    tag: Annotated[list[str] | None, Parameter(negative="")] = None,
    channel: AnyChannel = None,
    options: Changing = CHANGING,
) -> Answer:
    """Make a contact. Consent is said on its own: `outrider consents record`.

    Example: `outrider contacts create ann@example.org --name Ann --set plan=free --tag vip`

    Parameters
    ----------
    addresses
        Email addresses and telephone numbers in any form.
    name
        What the person is called.
    external_id
        Your own system's id of the person.
    timezone
        IANA zone of the person's clock, such as Europe/Vienna; the tenant's when absent.
    locale
        Language and country, such as de-AT.
    tag
        Put this tag on; several times.
    """
    async with changing(options) as work:
        new = write.NewContact(
            [AddressView(channel_of(each, channel), each) for each in addresses],
            name, external_id, await _values(work.uow, set_), timezone, locale, tag or [],
        )  # fmt: skip
        made = await write.create(work.uow, channels(), work.actor, new)
    return _told(made, f"made contact {made.id}", options)


@APP.command
async def change(
    who: Who,
    *,
    name: str | None = None,
    external_id: str | None = None,
    set_: Values = None,
    unset: Annotated[list[str] | None, Parameter(negative="")] = None,
    timezone: str | None = None,
    locale: str | None = None,
    channel: AnyChannel = None,
    options: Changing = CHANGING,
) -> Answer:
    """Change a contact; what is not named stays, an empty text takes a value away.

    Example: `outrider contacts change ann@example.org --set plan=gold --locale de-AT`

    Parameters
    ----------
    name
        What the person is called.
    external_id
        Your own system's id of the person.
    unset
        Take this attribute away; several times.
    timezone
        IANA zone of the person's clock.
    locale
        Language and country, such as de-AT.
    """
    async with changing(options) as work:
        values = {**await _values(work.uow, set_), **dict.fromkeys(unset or ())}
        wanted = write.ContactChange(
            UNSET if name is None else name,
            UNSET if external_id is None else external_id or None,
            values or UNSET,
            UNSET if timezone is None else timezone or None,
            UNSET if locale is None else locale or None,
        )
        if wanted == write.ContactChange():
            raise Refused(
                "required", "name what to change: --name, --external-id, --set, --unset, --timezone, --locale"
            )
        contact = await named.contact(work.uow, who, channel)
        made = await write.update(work.uow, work.actor, contact.id, wanted)
    return _told(made, f"contact {made.id} is changed", options)


@APP.command(name="add-address")
async def add_address(who: Who, address: str, *, channel: AnyChannel = None, options: Changing = CHANGING) -> Answer:
    """Give a contact one more address.

    Example: `outrider contacts add-address ann@example.org ann@work.example`

    Parameters
    ----------
    address
        An email address or telephone number in any form.
    """
    return await _readdressed(write.add_address, who, address, channel, options)


@APP.command(name="remove-address")
async def remove_address(who: Who, address: str, *, channel: AnyChannel = None, options: Changing = CHANGING) -> Answer:
    """Take an address from a contact; what stands against it on the do-not-contact list stays.

    Example: `outrider contacts remove-address ann@example.org ann@work.example`

    Parameters
    ----------
    address
        The address, in any form.
    """
    return await _readdressed(write.remove_address, who, address, channel, options)


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

    Example: `outrider contacts import people.csv --list customers --consent granted --consent-source "shop, 2026"`

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
async def show(who: Who, *, channel: AnyChannel = None, options: Common = COMMON) -> Answer:
    """Show one contact with addresses, tags and consent.

    Example: `outrider contacts show ann@example.org`
    """
    async with looking(options) as work:
        contact = await named.contact(work.uow, who, channel)
    return Answer(msgspec.to_builtins(contact), _shown(contact))


@APP.command
async def bounces(who: Who, *, channel: AnyChannel = None, options: Common = COMMON) -> Answer:
    """Show which messages came back for now; too many put an address on the do-not-contact list.

    Example: `outrider contacts bounces ann@example.org`
    """
    async with looking(options) as work:
        contact = await named.contact(work.uow, who, channel)
        found = await soft_bounces.of_contact(work.uow, contact.id)
    rows = [msgspec.to_builtins(each) for each in found]
    columns = ("at", "channel", "address", "cause", "detail", "is_used", "message_id")
    return Answer(rows, table(rows, columns, empty="nothing came back for now"))


@APP.command(name="list")
async def list_contacts(*, limit: Limit = 100, after: After = None, options: Common = COMMON) -> Answer:
    """List contacts in the order they were made.

    Example: `outrider contacts list --limit 20`
    """
    async with looking(options) as work:
        found = await read.listed(work.uow, limit=limit, after=parse_id(after, "--after") if after else None)
    return _listed(found, "no contacts")


@APP.command
async def search(
    text: str = "",
    *,
    tag: Annotated[list[str] | None, Parameter(negative="")] = None,
    segment: str | None = None,
    limit: Limit = 100,
    after: After = None,
    options: Common = COMMON,
) -> Answer:
    """Search contacts by a text in name, external id or an address, by tags, by a segment, or all of them.

    Example: `outrider contacts search ann --tag vip`

    Parameters
    ----------
    text
        What to look for, whatever the case.
    tag
        Only who has this tag; several times: one of them.
    segment
        Only whom this segment holds for.
    """
    wanted: list[rules.Rule] = [rules.Anywhere(text)] if text else []
    if tag:
        wanted.append(rules.Tag(tag))
    async with looking(options) as work:
        if segment is not None:
            wanted.append(rules.InSegment(await campaigns.segment_id(work.uow, segment)))
        last = parse_id(after, "--after") if after else None
        found = await segments.contacts(work.uow, rules.AllOf(wanted), limit=limit, after=last)
    return _listed(found, "nobody")


async def _readdressed(change: Readdress, who: str, address: str, channel: str | None, options: Changing) -> Answer:
    async with changing(options) as work:
        contact = await named.contact(work.uow, who, None)
        given = AddressView(channel_of(address, channel), address)
        made = await change(work.uow, channels(), work.actor, contact.id, given)
    return _told(made, f"contact {made.id} has {len(made.addresses)} addresses", options)


async def _values(uow: UnitOfWork, given: list[str] | None) -> dict[str, Any]:
    """Attributes as they were typed, each read by what it is defined to hold.

    Raises:  Refused(invalid_setting, wrong_type, unknown_choice).
    """
    holds, values = await attributes.listed(uow) if given else {}, {}
    for each in given or ():
        key, sign, text = each.partition("=")
        if not sign or not key:
            raise Refused("invalid_setting", "must be attribute=value", field="--set")
        values[key] = attributes.from_text(holds[key], text, key) if key in holds else text
    return values


def _shown(contact: ContactView) -> str:
    data = msgspec.to_builtins(contact)
    return facts(
        {
            **{name: data[name] for name in ("id", "external_id", "name", "timezone", "locale", "created_at")},
            "attributes": msgspec.json.encode(data["attributes"]).decode(),
            "addresses": ", ".join(f"{each['channel']}:{each['address']}" for each in data["addresses"]),
            "tags": ", ".join(data["tags"]),
            "consent": ", ".join(f"{each['channel']} {each['purpose']}: {each['status']}" for each in data["consents"]),
        }
    )


def _told(made: ContactView, done: str, options: Changing) -> Answer:
    return Answer(msgspec.to_builtins(made), f"{note(done, dry_run=options.dry_run)}\n{_shown(made)}")


def _listed(found: Sequence[ContactView], empty: str) -> Answer:
    rows = [msgspec.to_builtins(each) for each in found]
    shown = [{**row, "address": ", ".join(each["address"] for each in row["addresses"])} for row in rows]
    return Answer(rows, table(shown, ("id", "name", "address", "external_id", "created_at"), empty=empty))
