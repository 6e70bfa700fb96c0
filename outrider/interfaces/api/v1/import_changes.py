"""What an import changed, or a dry run would change, contact by contact; and undoing an import."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.contacts.imports import changes
from outrider.domain.contacts.imports.changes import ChangeView
from outrider.domain.contacts.imports.control import ImportView
from outrider.domain.people import undo
from outrider.engine.maintenance import imports
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

IsNew = Annotated[bool | None, QueryParameter(description="Only contacts that the import made, or only known ones.")]
Outcome = Annotated[
    Literal["restored", "deleted", "partly", "left"] | None,
    QueryParameter(description="Only those with which undoing did this."),
]


class UndoIn(msgspec.Struct, forbid_unknown_fields=True):
    """How many contacts it is about, as it was shown; and why."""

    count: Annotated[int, msgspec.Meta(ge=1)]
    reason: Annotated[str, msgspec.Meta(max_length=500)] = "not given"


class UndoableOut(msgspec.Struct):
    """What undoing would look at. `count` is to be given back; what was used or changed since stays."""

    count: int
    new_count: int
    known_count: int


@get("/imports/{import_id:str}/changes", guards=[needs("operator", "imports:read")])
async def changed(
    import_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    is_new: FromQuery[IsNew] = None,
    outcome: FromQuery[Outcome] = None,
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[ChangeView]:
    """List what an import changed field by field, or what a dry run would change (the first 10,000 contacts)."""
    after = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await changes.listed(
            uow, parse_id(import_id, "import_id"), limit=limit, after=after[0] if after else None,
            is_new=is_new, outcome=outcome,
        )  # fmt: skip
    return page(items, limit, cursor_of(items[-1].contact_id) if items else "")


@get("/imports/{import_id:str}/undo", guards=[needs("operator", "imports:write")])
async def undoable(
    import_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> UndoableOut:
    """Say how many contacts undoing an import would be about; 409 where nothing can be undone, and why."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        found = await undo.preview(uow, parse_id(import_id, "import_id"))
    return UndoableOut(found.count, found.new_count, found.known_count)


@post("/imports/{import_id:str}/undo", status_code=202, guards=[needs("operator", "imports:write")])
async def undone(
    import_id: FromPath[str],
    data: JSONBody[UndoIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> ImportView:
    """Undo an import by a job: put back what nobody changed since, delete whom it made unless they were used since."""
    identifier = parse_id(import_id, "import_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await imports.settle_undo_of(uow, identifier)
        found = await undo.begin(uow, principal.actor, identifier, count=data.count, reason=data.reason)
        return await imports.enqueue_undo(uow, runtime, principal.actor, identifier, found.count)


ROUTES = [changed, undoable, undone]
