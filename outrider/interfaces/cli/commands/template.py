"""Templates: subject, HTML and text under a name, in versions that never change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from cyclopts import App

from outrider.data.db import UnitOfWork
from outrider.domain.templates import templates
from outrider.domain.templates.templates import Source, TemplateView
from outrider.interfaces.cli import named
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit, text_of
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.work import looking, note, wired

APP = App(name="template")

_COLUMNS = ("id", "name", "channel", "latest_version", "created_at", "archived_at")


@APP.command
async def create(
    name: str,
    *,
    subject: str = "",
    html: Path | None = None,
    text: Path | None = None,
    preheader: str = "",
    channel: str = "email",
    options: Changing = CHANGING,
) -> Answer:
    """Make a template with its first version.

    Parameters
    ----------
    name
        What you call it.
    subject
        The subject; may hold {{ variables }}.
    html
        File with the HTML part.
    text
        File with the text part.
    preheader
        What mail programs show beside the subject.
    channel
        Which channel it is for.
    """
    source = Source(subject, _read(html, "--html"), _read(text, "--text"), preheader)
    async with wired(options) as (runtime, work):
        made = await templates.create(
            work.uow, runtime.channels, runtime.renderer, work.actor, name=name, channel=channel, source=source
        )
    return Answer(msgspec.to_builtins(made), note(f"made template {made.name} ({made.id})", dry_run=options.dry_run))


@APP.command
async def update(
    which: str,
    *,
    subject: str = "",
    html: Path | None = None,
    text: Path | None = None,
    preheader: str = "",
    options: Changing = CHANGING,
) -> Answer:
    """Add a version; new messages and campaigns take it from the commit on.

    Parameters
    ----------
    which
        The template's name or id.
    subject
        The subject; may hold {{ variables }}.
    html
        File with the HTML part.
    text
        File with the text part.
    preheader
        What mail programs show beside the subject.
    """
    source = Source(subject, _read(html, "--html"), _read(text, "--text"), preheader)
    async with wired(options) as (runtime, work):
        found = await find(work.uow, which)
        made = await templates.add_version(work.uow, runtime.channels, runtime.renderer, work.actor, found.id, source)
    text_ = f"template {found.name} is at version {made.version}"
    return Answer(msgspec.to_builtins(made), note(text_, dry_run=options.dry_run))


@APP.command
async def show(which: str, *, version: int | None = None, options: Common = COMMON) -> Answer:
    """Show what a version says, the latest by default.

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
    parts += [f"--- {part}\n{data[part]}" for part in ("text", "html") if data[part] is not None]
    return Answer(data, "\n".join(parts))


@APP.command(name="list")
async def list_(*, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List templates."""
    async with looking(options) as work:
        found = await templates.listed(work.uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, _COLUMNS, empty="no templates"))


async def find(uow: UnitOfWork, which: str) -> TemplateView:
    """A template by name or id.

    Raises:  Refused(not_found).
    """

    async def page(after: Any, limit: int) -> list[TemplateView]:
        return await templates.listed(uow, limit=limit, after=after)

    return await named.find(which, "template", page, field="template")


def _read(path: Path | None, field: str) -> str | None:
    return None if path is None else text_of(path, field)
