"""Contacts: import a CSV file, look somebody up, list."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Misconfigured, Refused
from outrider.base.ids import parse_id
from outrider.data.db import Database, Role
from outrider.domain.contacts import attributes, lists, read
from outrider.domain.contacts.channels import channel_of
from outrider.domain.contacts.imports import control, run
from outrider.domain.contacts.imports.control import ImportView
from outrider.domain.contacts.imports.examine import FileFacts, ProblemView, examine
from outrider.domain.contacts.imports.options import Dates, Options
from outrider.domain.contacts.imports.report import as_csv
from outrider.domain.segments import rules, segments
from outrider.domain.tenants.regions import check_region, region_of
from outrider.interfaces.cli import campaigns, exits, named
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import COMMON, Changing, Common, Limit, readable_file
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.plugged import channels
from outrider.interfaces.cli.progress import Advance, progress
from outrider.interfaces.cli.work import looking, tenant_of, within

APP = App(name="contacts")

_SHOWN_ERRORS: Final = 10
_PAGE: Final = 1000
_COUNTS: Final = (
    "row_count", "created_count", "updated_count", "unchanged_count", "duplicate_count", "rejected_count",
    "suppressed_count", "kept_withdrawn_count",
)  # fmt: skip


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

    An interrupted import goes on where it was when the same file is imported again.

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
        header=field, several times: address, name, external_id, timezone, locale, consent, tags, ignore,
        attribute:key.
    dates
        How 01/02/2026 is read where an attribute holds a day; without it such rows are refused.
    region
        Country in which telephone numbers without + are read; else the tenant's default_region.
    errors
        Write every refused row to this CSV file (mode 0600).
    """
    options = options or Changing()
    readable_file(file, "file")
    asked = Options(
        channel=channel,
        consent=consent,
        consent_source=consent_source,
        purpose=purpose,
        mapping=dict(_pair(each) for each in map_ or ()),
        dates=dates,
    )
    plugin = channel_of(channels(), channel, field="channel")
    async with doors().database() as db:
        tenant_id = await tenant_of(db, options.tenant)
        async with db.uow(Role.APP, tenant_id) as uow:
            definitions = await attributes.listed(uow)
            if plugin.is_regional:
                home = check_region(region, field="--region") or await region_of(uow.raw, tenant_id)
                asked = msgspec.structs.replace(asked, region=home)
        found = await asyncio.to_thread(examine, file, asked, plugin, definitions)
        if options.dry_run:
            return _examined(found)
        async with within(db, tenant_id) as work:
            if list_ is not None:
                asked = msgspec.structs.replace(asked, list_id=await _list(work, list_))
            view = await control.begin(work.uow, work.actor, found, asked, file.name)
        with progress("importing", found.row_count) as advance:
            view = await run.run(db, channels(), tenant_id, view.id, file, watch=_Bar(advance))
        refused = await _problems(db, tenant_id, view.id)
    if errors is not None:
        _write(errors, refused)
    return _imported(view, refused, errors)


@APP.command
async def show(who: str, *, channel: str = "email", options: Common = COMMON) -> Answer:
    """Show one contact with addresses and consent.

    Parameters
    ----------
    who
        An address in any form, or the contact's id.
    channel
        Which channel the address belongs to.
    """
    async with looking(options) as work:
        if "@" in who or who.startswith("+"):
            contact = await read.by_address(work.uow, channels(), channel, who)
            if contact is None:
                raise Refused("not_found", "nobody has this address", field="who", status=404)
        else:
            contact = await read.get(work.uow, parse_id(who, "who"))
    data = msgspec.to_builtins(contact)
    shown = {
        **{name: data[name] for name in ("id", "external_id", "name", "timezone", "locale", "created_at")},
        "attributes": msgspec.json.encode(data["attributes"]).decode(),
        "addresses": ", ".join(f"{each['channel']}:{each['address']}" for each in data["addresses"]),
        "consent": ", ".join(f"{each['channel']} {each['purpose']}: {each['status']}" for each in data["consents"]),
    }
    return Answer(data, facts(shown))


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


async def _list(work: Any, name: str) -> UUID:
    """The list of this name or id, made when there is none."""
    try:
        page = lambda after, limit: lists.listed(work.uow, limit=limit, after=after)  # noqa: E731 - one use
        return (await named.find(name, "list", page, field="--list")).id
    except Refused as error:
        if error.code != "not_found":
            raise
    return (await lists.create(work.uow, work.actor, name)).id


async def _problems(db: Database, tenant_id: UUID, import_id: UUID) -> list[ProblemView]:
    """Every refused row that was kept (at most 10,000), page by page."""
    refused: list[ProblemView] = []
    while True:
        async with db.uow(Role.APP, tenant_id) as uow:
            last = (refused[-1].line, refused[-1].field) if refused else None
            page = await control.errors(uow, import_id, limit=_PAGE, after=last)
        refused.extend(page)
        if len(page) < _PAGE:
            return refused


class _Bar(run.Watch):
    """Moves the bar."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    async def stored(self, view: ImportView) -> None:
        """See `Watch`."""
        self._advance(view.row_count)


def _write(path: Path, refused: list[ProblemView]) -> None:
    """Write refused rows, private; a formula in a cell stays text in a spreadsheet."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8", newline="") as file:
            os.fchmod(fd, 0o600)
            file.write(as_csv(refused))
    except OSError as error:
        raise Misconfigured("file_unusable", f"{path} cannot be written: {error.strerror}", field="--errors") from error


def _imported(view: ImportView, refused: list[ProblemView], errors: Path | None) -> Answer:
    data = {**msgspec.to_builtins(view), "errors": [msgspec.to_builtins(each) for each in refused]}
    parts = [f"import {view.id} is {view.state}", facts({name.removesuffix("_count"): data[name] for name in _COUNTS})]
    if refused:
        parts.append(_told(refused, "all of them in " + str(errors) if errors else "all of them with --errors FILE"))
    return Answer(data, "\n".join(parts), exits.OK if view.state == "completed" else exits.CHECK_FAILED)


def _examined(found: FileFacts) -> Answer:
    data = msgspec.to_builtins(found)
    columns = ", ".join(f"{column.header} -> {column.target}" for column in found.columns)
    parts = [f"dry run, nothing was changed; {found.row_count} rows, columns: {columns}"]
    if found.problems:
        parts.append(_told(found.problems, "the first thousand rows were tried"))
    return Answer(data, "\n".join(parts))


def _told(refused: list[ProblemView], where: str) -> str:
    rows = [msgspec.to_builtins(each) for each in refused[:_SHOWN_ERRORS]]
    return f"refused rows ({where})\n" + table(rows, ("line", "field", "code", "message", "value"))


def _pair(text: str) -> tuple[str, str]:
    header, sign, target = text.rpartition("=")
    if not sign:
        raise Refused("bad_mapping", f"{text[:80]!r} is not header=field", field="--map")
    return header, target
