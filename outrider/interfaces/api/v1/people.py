"""One person as a whole: merged, exported, erased."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.response import File

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.contacts.views import ContactView
from outrider.domain.people import erase, export, merge
from outrider.domain.people.erase import ErasureView
from outrider.domain.people.export import ExportView
from outrider.domain.people.files import ExportFiles
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

Reason = Annotated[str, msgspec.Meta(max_length=500)]


class MergeIn(msgspec.Struct, forbid_unknown_fields=True):
    """The contact that becomes a part of the one in the path, and is no more."""

    contact_id: UUID
    reason: Reason = "not given"


class EraseIn(msgspec.Struct, forbid_unknown_fields=True):
    """Why; kept for ever, so it must not name the person."""

    reason: Reason = "not given"


@post("/contacts/{contact_id:str}/merge", status_code=200, guards=[needs("operator", "contacts:write")])
async def merged(
    contact_id: FromPath[str],
    data: JSONBody[MergeIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> ContactView:
    """Make another contact a part of this one; of consent the withdrawal wins. It cannot be undone."""
    identifier = parse_id(contact_id, "contact_id")
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        return await merge.merge(uow, principal.actor, identifier, data.contact_id, reason=data.reason)


@post("/contacts/{contact_id:str}/export", status_code=202, guards=[needs("operator", "contacts:write")])
async def asked(
    contact_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ExportView:
    """Have everything about a person written into one file; fetch it when the export is completed."""
    identifier = parse_id(contact_id, "contact_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        made = await export.ask(uow, principal.actor, identifier)
        job = await runtime.jobs.enqueue(uow, principal.actor, "export_person", {"export_id": made.id})
        return await export.has_job(uow, made.id, job.id)


@post("/contacts/{contact_id:str}/erase", status_code=202, guards=[needs("admin", "contacts:write")])
async def erased(
    contact_id: FromPath[str],
    data: JSONBody[EraseIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> ErasureView:
    """Erase a person: at once from contacts, by a job from the ledger. The promise not to write stays, as a hash."""
    identifier = parse_id(contact_id, "contact_id")
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        begun = await erase.begin(uow, principal.actor, identifier, reason=data.reason)
        job = await runtime.jobs.enqueue(uow, principal.actor, "erase_person", {"erasure_id": begun.id})
        return await erase.has_job(uow, begun.id, job.id)


@get("/exports", guards=[needs("operator", "contacts:read")])
async def exports(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[ExportView]:
    """List exports, newest first."""
    before = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await export.listed(uow, limit=limit, before=before[0] if before else None)
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@get("/exports/{export_id:str}", guards=[needs("operator", "contacts:read")])
async def export_shown(
    export_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ExportView:
    """Show one export and whether its file is there."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await export.get(uow, parse_id(export_id, "export_id"))


@post("/exports/{export_id:str}/file.json", status_code=200, guards=[needs("operator", "contacts:write")])
async def fetched(
    export_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Response[bytes]:
    """Fetch the file of a completed export. A POST, because who fetched it is written down."""
    identifier = parse_id(export_id, "export_id")
    files = ExportFiles(runtime.settings.data_dir)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        path = await export.fetch(uow, files, principal.actor, identifier, is_person=True)
    return File(path, filename=f"person-{identifier}.json", media_type="application/json")


@get("/erasures", guards=[needs("operator", "contacts:read")])
async def erasures(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[ErasureView]:
    """List erasures, newest first: ids and numbers, never who it was."""
    before = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await erase.listed(uow, limit=limit, before=before[0] if before else None)
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@get("/erasures/{erasure_id:str}", guards=[needs("operator", "contacts:read")])
async def erasure_shown(
    erasure_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ErasureView:
    """Show one erasure and how far it is."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await erase.get(uow, parse_id(erasure_id, "erasure_id"))


ROUTES = [merged, asked, erased, exports, export_shown, fetched, erasures, erasure_shown]
