"""Templates and their versions."""

from __future__ import annotations

import re
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.templates import attachments, templates
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

Archived = Annotated[bool, QueryParameter(description="Archived ones too.")]


class FileIn(msgspec.Struct, forbid_unknown_fields=True):
    """A file: its name, its type and its content in base64."""

    name: str
    content: str
    content_type: str = "application/octet-stream"


class SourceIn(msgspec.Struct, forbid_unknown_fields=True):
    """What a version says: template sources (minijinja) and files.

    `mjml` in place of `html`, which is made of it. `inline_css`: put style rules into elements. `auto_text`: make the
    text of the HTML when there is none.
    """

    subject: str = ""
    html: str | None = None
    text: str | None = None
    preheader: str = ""
    attachments: Annotated[list[FileIn], msgspec.Meta(max_length=attachments.MOST_FILES)] = []
    mjml: str | None = None
    inline_css: bool = True
    auto_text: bool = True


class TemplateIn(SourceIn, forbid_unknown_fields=True, kw_only=True):
    """A template with its first version."""

    name: Annotated[str, msgspec.Meta(max_length=200)]
    channel: str = "email"


@post("/templates", status_code=201, guards=[needs("operator", "templates:write")])
async def create(
    data: JSONBody[TemplateIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> templates.TemplateView:
    """Make a template with its first version; it is compiled and tried before it is stored."""
    source = _source(data)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await templates.create(
            uow,
            runtime.channels,
            runtime.renderer,
            principal.actor,
            name=data.name,
            channel=data.channel,
            source=source,
        )


@get("/templates", guards=[needs("viewer", "templates:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    with_archived: FromQuery[Archived] = False,  # noqa: FBT002 - a query parameter has a name
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[templates.TemplateView]:
    """List templates in the order they were made."""
    after = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await templates.listed(uow, limit=limit, after=after[0] if after else None, with_archived=with_archived)
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@get("/templates/{template_id:str}", guards=[needs("viewer", "templates:read")])
async def shown(
    template_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> templates.SourceView:
    """Show the latest version of a template with what it says."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await templates.source_of(uow, parse_id(template_id, "template_id"))


@post("/templates/{template_id:str}/versions", status_code=201, guards=[needs("operator", "templates:write")])
async def version_added(
    template_id: FromPath[str],
    data: JSONBody[SourceIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> templates.VersionView:
    """Add a version; what was launched before keeps the version it froze."""
    identifier, source = parse_id(template_id, "template_id"), _source(data)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await templates.add_version(uow, runtime.channels, runtime.renderer, principal.actor, identifier, source)


@get("/templates/{template_id:str}/versions", guards=[needs("viewer", "templates:read")])
async def versions(
    template_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[templates.VersionView]:
    """List the versions of a template, newest first."""
    before = read_cursor(cursor, tuple[Annotated[int, msgspec.Meta(ge=1, le=templates.NEWEST)]])
    identifier = parse_id(template_id, "template_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await templates.versions(uow, identifier, limit=limit, before=before[0] if before else None)
    return page(items, limit, cursor_of(items[-1].version) if items else "")


@get("/templates/{template_id:str}/versions/{version:str}", guards=[needs("viewer", "templates:read")])
async def version_shown(
    template_id: FromPath[str],
    version: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> templates.SourceView:
    """Show one version of a template with what it says."""
    identifier, number = parse_id(template_id, "template_id"), version_of(version)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await templates.source_of(uow, identifier, number)


@post("/templates/{template_id:str}/archive", status_code=200, guards=[needs("operator", "templates:write")])
async def archived(
    template_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> templates.TemplateView:
    """Take a template out of use; its versions stay."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        identifier = parse_id(template_id, "template_id")
        return await templates.archive(uow, principal.actor, identifier, is_archived=True)


@post("/templates/{template_id:str}/restore", status_code=200, guards=[needs("operator", "templates:write")])
async def restored(
    template_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> templates.TemplateView:
    """Take an archived template back into use."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        identifier = parse_id(template_id, "template_id")
        return await templates.archive(uow, principal.actor, identifier, is_archived=False)


def version_of(text: str) -> int:
    """The number of a version as it stands in a path.

    Raises:  Refused(not_found).
    """
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise Refused("not_found", "the template has no such version", status=404)
    return int(text)


def _source(data: SourceIn) -> templates.Source:
    files = [
        attachments.decode(file.name, file.content_type, file.content, field=f"/attachments/{at}")
        for at, file in enumerate(data.attachments)
    ]
    return templates.Source(
        data.subject, data.html, data.text, data.preheader, files, data.mjml, data.inline_css, data.auto_text
    )


ROUTES = [create, listed, shown, version_added, versions, version_shown, archived, restored]
