"""Tables of a tenant as CSV files: asked for, written by a job, fetched while they last. Listed with all exports."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.response import File

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.contacts.channels import channel_of
from outrider.domain.people import export, tabular
from outrider.domain.people.export import ExportView
from outrider.domain.people.files import ExportFiles
from outrider.interfaces.auth import Principal, needs


class ExportIn(msgspec.Struct, forbid_unknown_fields=True):
    """Which table; of contacts those on one list only, and the channel whose address has a column of its own."""

    kind: tabular.Kind
    list_id: UUID | None = None
    channel: Annotated[str, msgspec.Meta(max_length=40)] = "email"


@post("/exports", status_code=202, guards=[needs("operator", "contacts:write")])
async def asked(
    data: JSONBody[ExportIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ExportView:
    """Have contacts, memberships, do-not-contact entries or the proof of consent written into a CSV file."""
    channel_of(runtime.channels, data.channel)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        made = await tabular.ask(uow, principal.actor, data.kind, list_id=data.list_id, channel=data.channel)
        job = await runtime.jobs.enqueue(uow, principal.actor, "export_table", {"export_id": made.id})
        return await export.has_job(uow, made.id, job.id)


@post("/exports/{export_id:str}/file.csv", status_code=200, guards=[needs("operator", "contacts:write")])
async def fetched(
    export_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Response[bytes]:
    """Fetch the file of a completed export of a table. A POST, because who fetched it is written down."""
    identifier = parse_id(export_id, "export_id")
    files = ExportFiles(runtime.settings.data_dir)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        kind = (await export.get(uow, identifier)).kind
        path = await export.fetch(uow, files, principal.actor, identifier, is_person=False)
    return File(path, filename=f"{kind}-{identifier}.csv", media_type="text/csv")


ROUTES = [asked, fetched]
