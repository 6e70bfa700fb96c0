"""Templates: names under which versions are kept. A version never changes; what was sent with it stays what it was.

Owns names and version numbers; what a version says is a content (contents.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.contracts.channel import Attachment, Channel, Manuscript, Renderer
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts.channels import channel_of
from outrider.domain.contacts.values import check_label
from outrider.domain.templates import contents
from outrider.domain.templates.rows import SQL

NEWEST = 2**31 - 1


class Source(msgspec.Struct, frozen=True):
    """What a version says: template sources, and the files that go with it.

    mjml        in place of html, which is made of it
    inline_css  put the style rules of the HTML into its elements
    auto_text   make the text of the HTML when there is none
    """

    subject: str = ""
    html: str | None = None
    text: str | None = None
    preheader: str = ""
    attachments: Sequence[Attachment] = ()
    mjml: str | None = None
    inline_css: bool = True
    auto_text: bool = True


class Written(msgspec.Struct, frozen=True):
    """What the author wrote, where it is not what is sent."""

    mjml: str | None = None
    html: str | None = None
    text: str | None = None
    inline_css: bool = True
    auto_text: bool = True


class TemplateView(msgspec.Struct, frozen=True):
    """A template and the number of its latest version. `warnings`: what its author should know, when just made."""

    id: UUID
    name: str
    channel: str
    created_at: datetime
    archived_at: datetime | None
    latest_version: int
    warnings: list[str] = []


class VersionView(msgspec.Struct, frozen=True):
    """One version, without what it says. `warnings`: what its author should know, when it was just made."""

    version: int
    content_id: UUID
    created_by: str
    created_at: datetime
    warnings: list[str] = []


class AttachmentView(msgspec.Struct, frozen=True):
    """A file of a version, without its content."""

    name: str
    content_type: str
    size_bytes: int


class SourceView(msgspec.Struct, frozen=True):
    """One version with what it says, and what its author wrote where html and text were made of that."""

    template_id: UUID
    version: int
    content_id: UUID
    created_by: str
    created_at: datetime
    subject: str
    html: str | None
    text: str | None
    preheader: str
    attachments: list[AttachmentView]
    written: Written | None = None


async def create(
    uow: UnitOfWork,
    channels: Mapping[str, Channel],
    renderer: Renderer,
    actor: Actor,
    *,
    name: str,
    channel: str,
    source: Source,
) -> TemplateView:
    """Make a template with its first version.

    Raises:  Refused(name_taken, 409); Refused naming subject, html or text with the line; nothing was made.
    """
    plain = check_label(name)
    found = channel_of(channels, channel)
    row = await SQL.insert_template.one(uow.raw, uow.tenant, plain, channel)
    if row is None:
        raise Refused("name_taken", "another template has this name", field="/name", status=409)
    saved = await _save(uow, found, renderer, source)
    await _insert(uow, actor, row["id"], 1, saved)
    details = {"name": plain, "channel": channel}
    await append(uow, actor, action="template.create", target=("template", str(row["id"])), details=details)
    return msgspec.structs.replace(await get(uow, row["id"]), warnings=saved.warnings)


async def add_version(
    uow: UnitOfWork,
    channels: Mapping[str, Channel],
    renderer: Renderer,
    actor: Actor,
    template_id: UUID,
    source: Source,
) -> VersionView:
    """Add a version; messages and campaigns that name none take the latest one from the commit on [T55].

    Gives:   the new version, or the latest one when it says exactly the same.
    Raises:  Refused(not_found; archived, 409); Refused naming subject, html or text with the line.
    """
    channel = await _held(uow, template_id)
    saved = await _save(uow, channel_of(channels, channel), renderer, source)
    made = await _appended(uow, actor, template_id, saved, {})
    return msgspec.structs.replace(made, warnings=saved.warnings)


async def restore_version(uow: UnitOfWork, actor: Actor, template_id: UUID, version: int) -> VersionView:
    """Make what an earlier version says the latest again, as a new version; nothing between is lost.

    Gives:   the new version, or the latest one when it says exactly the same.
    Raises:  Refused(not_found naming template or version; archived, 409).
    """
    await _held(uow, template_id)
    row = await _version_row(uow, template_id, version)
    return await _appended(uow, actor, template_id, Saved(row["content_id"], row["written"]), {"restored": version})


async def archive(uow: UnitOfWork, actor: Actor, template_id: UUID, *, is_archived: bool) -> TemplateView:
    """Take a template out of use, or back into it. Campaigns that have frozen a version are not concerned.

    Raises:  Refused(not_found).
    """
    if await SQL.archive_template.value(uow.raw, uow.tenant, template_id, is_archived) is None:
        raise _not_found()
    action = "template.archive" if is_archived else "template.restore"
    await append(uow, actor, action=action, target=("template", str(template_id)))
    return await get(uow, template_id)


async def get(uow: UnitOfWork, template_id: UUID) -> TemplateView:
    """One template.

    Raises:  Refused(not_found).
    """
    row = await SQL.template_get.one(uow.raw, uow.tenant, template_id)
    if row is None:
        raise _not_found()
    return TemplateView(**dict(row))


async def listed(
    uow: UnitOfWork, *, limit: int, after: UUID | None = None, with_archived: bool = False
) -> list[TemplateView]:
    """Templates in the order they were made, `limit` (1..1000) of those after `after`."""
    rows = await SQL.templates_page.many(uow.raw, uow.tenant, after or NIL, limit, with_archived)
    return [TemplateView(**dict(row)) for row in rows]


async def versions(uow: UnitOfWork, template_id: UUID, *, limit: int, before: int | None = None) -> list[VersionView]:
    """Versions of a template, newest first.

    Raises:  Refused(not_found).
    """
    await get(uow, template_id)
    rows = await SQL.versions_page.many(uow.raw, uow.tenant, template_id, before or NEWEST, limit)
    return [VersionView(**dict(row)) for row in rows]


async def version_of(uow: UnitOfWork, template_id: UUID, version: int | None = None) -> VersionView:
    """One version of a template, the latest by default.

    Raises:  Refused(not_found) naming template or version.
    """
    row = await _version_row(uow, template_id, version)
    return VersionView(row["version"], row["content_id"], row["created_by"], row["created_at"])


async def source_of(uow: UnitOfWork, template_id: UUID, version: int | None = None) -> SourceView:
    """What a version says, the latest by default.

    Raises:  Refused(not_found).
    """
    row = await _version_row(uow, template_id, version)
    content = (await contents.load(uow, uow.tenant, [row["content_id"]]))[row["content_id"]]
    files = [AttachmentView(file.name, file.content_type, len(file.content)) for file in content.attachments]
    return SourceView(
        template_id=template_id,
        version=row["version"],
        content_id=row["content_id"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        subject=content.subject,
        html=content.html,
        text=content.text,
        preheader=content.preheader,
        attachments=files,
        written=None if row["written"] is None else msgspec.json.decode(row["written"], type=Written),
    )


class Saved(msgspec.Struct, frozen=True):
    """A content as saved; `written` is JSON text, None where the author wrote exactly that."""

    content_id: UUID
    written: str | None
    warnings: list[str] = []


async def _held(uow: UnitOfWork, template_id: UUID) -> str:
    """Hold a template for a change; gives its channel."""
    held = await SQL.lock_template.one(uow.raw, uow.tenant, template_id)
    if held is None:
        raise _not_found()
    if held["archived_at"] is not None:
        raise Refused("archived", "the template is archived", field="/id", status=409)
    return held["channel"]  # type: ignore[no-any-return]  # a row of text


async def _version_row(uow: UnitOfWork, template_id: UUID, version: int | None) -> asyncpg.Record:
    row = await SQL.version_get.one(uow.raw, uow.tenant, template_id, version)
    if row is None:
        await get(uow, template_id)
        raise Refused("not_found", "the template has no such version", field="/version", status=404)
    return row


async def _appended(
    uow: UnitOfWork, actor: Actor, template_id: UUID, saved: Saved, details: Mapping[str, int]
) -> VersionView:
    """A version after the latest, unless that says exactly the same."""
    latest = await _version_row(uow, template_id, None)
    if saved.content_id != latest["content_id"] or _written(saved.written) != _written(latest["written"]):
        version = latest["version"] + 1
        await _insert(uow, actor, template_id, version, saved)
        action = "template.restore_version" if details else "template.add_version"
        target = ("template", str(template_id))
        await append(uow, actor, action=action, target=target, details={"version": version, **details})
    return await version_of(uow, template_id)


def _written(text: str | None) -> Written | None:
    return None if text is None else msgspec.json.decode(text, type=Written)


async def _insert(uow: UnitOfWork, actor: Actor, template_id: UUID, version: int, saved: Saved) -> None:
    await SQL.insert_version.run(uow.raw, uow.tenant, template_id, version, saved.content_id, actor.name, saved.written)


async def _save(uow: UnitOfWork, channel: Channel, renderer: Renderer, source: Source) -> Saved:
    wanted = Manuscript(source.mjml, source.html, source.text, source.inline_css, source.auto_text)
    contents.check_text(subject=source.subject, preheader=source.preheader, html=source.html, text=source.text)
    contents.check_text(mjml=source.mjml)
    made = await channel.write(wanted, renderer)
    content_id = await contents.save(
        uow,
        channel,
        renderer,
        subject=source.subject,
        html=made.html,
        text=made.text,
        preheader=source.preheader,
        attachments=source.attachments,
        is_template=True,
    )
    if (source.mjml, source.html, source.text) == (None, made.html, made.text):
        return Saved(content_id, None, list(made.warnings))
    written = Written(source.mjml, source.html, source.text, source.inline_css, source.auto_text)
    return Saved(content_id, msgspec.json.encode(written).decode(), list(made.warnings))


def _not_found() -> Refused:
    return Refused("not_found", "no such template", field="/id", status=404)
