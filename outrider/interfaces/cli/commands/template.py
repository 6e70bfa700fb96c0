"""Templates: subject, HTML and text under a name, in versions that never change."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.data import link_dial
from outrider.data.db import UnitOfWork
from outrider.domain.contacts.channels import channel_of
from outrider.domain.messages import quotes
from outrider.domain.senders import senders
from outrider.domain.senders.shown import identity_of
from outrider.domain.templates import contents, templates, versions
from outrider.domain.templates import preview as previews
from outrider.domain.templates.templates import Source, TemplateView
from outrider.interfaces.cli import campaigns, exits, named
from outrider.interfaces.cli.attaching import Attach, attachments_of
from outrider.interfaces.cli.dialling import Dial, told_dialled
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit, text_of
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.previewing import Contact, Part, Values, person_of, told, values_of
from outrider.interfaces.cli.work import changing, looking, note, wired

APP = App(name="template")

_COLUMNS = ("id", "name", "channel", "latest_version", "created_at", "archived_at")


@APP.command
async def create(
    name: str,
    *,
    subject: str = "",
    html: Path | None = None,
    mjml: Path | None = None,
    text: Path | None = None,
    preheader: str = "",
    attach: Attach = None,
    channel: str = "email",
    options: Changing = CHANGING,
) -> Answer:
    """Make a template with its first version.

    Example: `outrider template create sale --subject "A sale for {{ name }}" --html sale.html --text sale.txt`

    Parameters
    ----------
    name
        What you call it.
    subject
        The subject; may hold {{ variables }}.
    html
        File with the HTML part.
    mjml
        File with MJML, of which the HTML part is made.
    text
        File with the text part.
    preheader
        What mail programs show beside the subject.
    channel
        Which channel it is for.
    """
    source = _source(subject, html=html, mjml=mjml, text=text, preheader=preheader, attach=attach)
    async with wired(options) as (runtime, work):
        made = await templates.create(
            work.uow, runtime.channels, runtime.renderer, work.actor, name=name, channel=channel, source=source
        )
    done = note(f"made template {made.name} ({made.id})", dry_run=options.dry_run)
    return Answer(msgspec.to_builtins(made), _with_warnings(done, made.warnings))


@APP.command
async def update(
    which: str,
    *,
    subject: str = "",
    html: Path | None = None,
    mjml: Path | None = None,
    text: Path | None = None,
    preheader: str = "",
    attach: Attach = None,
    options: Changing = CHANGING,
) -> Answer:
    """Add a version; new messages and campaigns take it from the commit on. What is not given, files too, it has not.

    Example: `outrider template update sale --subject "The sale ends, {{ name }}" --html sale.html`

    Parameters
    ----------
    which
        The template's name or id.
    subject
        The subject; may hold {{ variables }}.
    html
        File with the HTML part.
    mjml
        File with MJML, of which the HTML part is made.
    text
        File with the text part.
    preheader
        What mail programs show beside the subject.
    """
    source = _source(subject, html=html, mjml=mjml, text=text, preheader=preheader, attach=attach)
    async with wired(options) as (runtime, work):
        found = await find(work.uow, which)
        made = await templates.add_version(work.uow, runtime.channels, runtime.renderer, work.actor, found.id, source)
    text_ = f"template {found.name} is at version {made.version}"
    return Answer(msgspec.to_builtins(made), _with_warnings(note(text_, dry_run=options.dry_run), made.warnings))


@APP.command
async def show(which: str, *, version: int | None = None, options: Common = COMMON) -> Answer:
    """Show what a version says, the latest by default.

    Example: `outrider template show sale --version 2`

    Parameters
    ----------
    which
        The template's name or id.
    version
        Which version.
    """
    async with looking(options) as work:
        found = await find(work.uow, which)
        source = await templates.source_of(work.uow, found.id, version)
    data = msgspec.to_builtins(source)
    head = {name: data[name] for name in ("version", "created_by", "created_at", "subject", "preheader")}
    parts = [facts(head)]
    if source.attachments:
        parts.append(table(data["attachments"], ("name", "content_type", "size_bytes")))
    parts += [f"--- {part}\n{data[part]}" for part in ("text", "html") if data[part] is not None]
    return Answer(data, "\n".join(parts))


@APP.command
async def preview(
    which: str,
    *,
    version: int | None = None,
    sender: str | None = None,
    contact: Contact = None,
    set_: Values = None,
    part: Part = "text",
    options: Common = COMMON,
) -> Answer:
    """Show what a recipient would get of a version and what it costs: made as the worker makes it, sent to nobody.

    Example: `outrider template preview sale --set name=Ann`

    Parameters
    ----------
    which
        The template's name or id.
    version
        Which version; the latest by default.
    sender
        From this sender: its name or id.
    """
    async with wired(options) as (runtime, work):
        found = await find(work.uow, which)
        wanted = await templates.version_of(work.uow, found.id, version)
        content = (await contents.load(work.uow, work.tenant_id, [wanted.content_id]))[wanted.content_id]
        person = await person_of(work.uow, contact)
        chosen = await campaigns.sender_id(work.uow, sender) if sender is not None else None
        known = await senders.get(work.uow, chosen) if chosen is not None else None
        identity = await identity_of(work.uow, known) if known is not None else None
        if known is not None and known.channel != found.channel:
            raise Refused("not_for_channel", f"the template is for {found.channel}", field="--sender")
    address = previews.address_of(person, found.channel)
    values = values_of(person, found.channel, address, set_)
    item = previews.item_for(
        address,
        previews.variables_of(person, address, values, found.channel),
        is_bulk=True,
        public_url=(known.public_url if known else "") or runtime.settings.public_url,
    )
    channel = channel_of(runtime.channels, found.channel)
    async with wired(options) as (runtime, work):
        made = await previews.rendered(channel, content, runtime.renderer, item, wanted.version, identity)
        priced = await quotes.of_preview(work.uow, found.channel, made, previews.own_address(person, found.channel))
    return Answer(msgspec.to_builtins(priced), told(priced, address, part))


@APP.command
async def links(which: str, *, version: int | None = None, dial: Dial = False, options: Common = COMMON) -> Answer:
    """Look at the links of a version; dials nobody unless asked to. Exit 1 when one leads nowhere.

    Example: `outrider template links sale --dial`

    Parameters
    ----------
    which
        The template's name or id.
    version
        Which version.
    """
    async with wired(options) as (runtime, work):
        found = await find(work.uow, which)
        version_ = await templates.version_of(work.uow, found.id, version)
        content = (await contents.load(work.uow, work.tenant_id, [version_.content_id]))[version_.content_id]
        channel = channel_of(runtime.channels, found.channel)
        notes = channel.review(content, is_bulk=True)
    tried = await link_dial.dial(channel.links(content), runtime.egress) if dial else []
    rows = [asdict(each) for each in notes]
    is_good = all(each.severity != "error" for each in notes) and all(each.verdict != "dead" for each in tried)
    shown = table(rows, ("severity", "code", "part", "line", "url", "detail"), empty="nothing to say")
    if dial:
        shown += f"\n{told_dialled(tried)}"
    data = {"is_ok": is_good, "notes": rows, "dialled": [asdict(each) for each in tried]}
    return Answer(data, shown, exits.OK if is_good else exits.CHECK_FAILED)


@APP.command
async def diff(which: str, before: int, after: int | None = None, *, options: Common = COMMON) -> Answer:
    """Compare two versions, part by part.

    Example: `outrider template diff sale 1 2`

    Parameters
    ----------
    which
        The template's name or id.
    before
        The version to compare with.
    after
        The other one; the latest by default.
    """
    async with looking(options) as work:
        found = await find(work.uow, which)
        old, new = await versions.pair(work.uow, found.id, before, after)
    made = await versions.compared(old, new)
    shown = "\n".join(f"{part}:\n{text}" for part, text in made.parts.items()) or "no difference"
    return Answer(msgspec.to_builtins(made), shown)


@APP.command
async def restore(which: str, version: int, *, options: Changing = CHANGING) -> Answer:
    """Make what an earlier version says the latest again, as a new version.

    Example: `outrider template restore sale 1`

    Parameters
    ----------
    which
        The template's name or id.
    version
        Which version.
    """
    async with changing(options) as work:
        found = await find(work.uow, which)
        made = await templates.restore_version(work.uow, work.actor, found.id, version)
    text = f"template {found.name} is at version {made.version}"
    return Answer(msgspec.to_builtins(made), note(text, dry_run=options.dry_run))


@APP.command
async def archive(which: str, *, options: Changing = CHANGING) -> Answer:
    """Take a template out of use for what is new; campaigns that were launched with it go on.

    Example: `outrider template archive sale`

    Parameters
    ----------
    which
        The template's name or id.
    """
    return await _archived(which, options, is_archived=True)


@APP.command
async def unarchive(which: str, *, options: Changing = CHANGING) -> Answer:
    """Take an archived template into use again.

    Example: `outrider template unarchive sale`

    Parameters
    ----------
    which
        The template's name or id.
    """
    return await _archived(which, options, is_archived=False)


@APP.command(name="versions")
async def versions_(which: str, *, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List the versions of a template, newest first, with who made them.

    Example: `outrider template versions sale`

    Parameters
    ----------
    which
        The template's name or id.
    """
    async with looking(options) as work:
        found = await find(work.uow, which, with_archived=True)
        made = await templates.versions(work.uow, found.id, limit=limit)
    rows = [msgspec.to_builtins(each) for each in made]
    return Answer(rows, table(rows, ("version", "created_by", "created_at"), empty="no versions"))


@APP.command(name="list")
async def list_(
    *, limit: Limit = 100, archived: Annotated[bool, Parameter(negative="")] = False, options: Common = COMMON
) -> Answer:
    """List templates.

    Example: `outrider template list`

    Parameters
    ----------
    archived
        Those that are out of use as well.
    """
    async with looking(options) as work:
        found = await templates.listed(work.uow, limit=limit, with_archived=archived)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, _COLUMNS, empty="no templates"))


async def find(uow: UnitOfWork, which: str, *, with_archived: bool = False) -> TemplateView:
    """A template by name or id.

    Raises:  Refused(not_found).
    """

    async def page(after: Any, limit: int) -> list[TemplateView]:
        return await templates.listed(uow, limit=limit, after=after, with_archived=with_archived)

    return await named.find(which, "template", page, field="template")


async def _archived(which: str, options: Changing, *, is_archived: bool) -> Answer:
    async with changing(options) as work:
        found = await find(work.uow, which, with_archived=True)
        made = await templates.archive(work.uow, work.actor, found.id, is_archived=is_archived)
    done = f"template {made.name} is {'out of use' if is_archived else 'in use'}"
    return Answer(msgspec.to_builtins(made), note(done, dry_run=options.dry_run))


def _with_warnings(done: str, warnings: list[str]) -> str:
    return "\n".join([done, *(f"warning: {each}" for each in warnings)])


def _source(
    subject: str, *, html: Path | None, mjml: Path | None, text: Path | None, preheader: str, attach: list[str] | None
) -> Source:
    """What the files of a command line say."""
    files = attachments_of(attach)
    return Source(subject, _read(html, "--html"), _read(text, "--text"), preheader, files, mjml=_read(mjml, "--mjml"))


def _read(path: Path | None, field: str) -> str | None:
    return None if path is None else text_of(path, field)
