"""Undo an import: put back what it changed and delete whom it made, as far as nothing has come of it since."""

from __future__ import annotations

import asyncio
from uuid import UUID

import msgspec

from outrider.base.errors import Unavailable
from outrider.contracts.actor import Actor
from outrider.contracts.jobs import JobContext, JobType, Superseded
from outrider.data.db import Role
from outrider.domain.contacts.imports import control
from outrider.domain.people import undo

_MOST_ATTEMPTS = 10


class Arguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which import, and how many contacts it was about when somebody said yes."""

    import_id: UUID
    count: int = 0


async def _work(context: JobContext, arguments: Arguments) -> dict[str, object]:
    """Go on page by page. Gives how many contacts were put back, deleted and left alone."""
    db, tenant_id = context.runtime.db, context.tenant_id
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        before = await control.get(uow, arguments.import_id)
    earlier = before.restored_count + before.deleted_count + before.left_count

    async def told(done: int) -> None:
        await context.progress(earlier + done, max(arguments.count, earlier + done), "contacts")

    try:
        actor = Actor("system", context.created_by)
        view = await undo.run(db, tenant_id, arguments.import_id, actor, hold=context.hold, told=told)
    except asyncio.CancelledError:
        if context.is_cancelled:
            await asyncio.shield(_end(context, arguments.import_id, "cancelled"))
        raise
    except (Unavailable, Superseded):
        raise
    except Exception:
        if context.attempt >= _MOST_ATTEMPTS:
            await _end(context, arguments.import_id, "failed")
        raise
    names = ("restored_count", "deleted_count", "left_count")
    return {"state": view.undo_state, **{name: getattr(view, name) for name in names}}


async def _end(context: JobContext, import_id: UUID, state: str) -> None:
    async with context.runtime.db.uow(Role.ENGINE, context.tenant_id) as uow:
        await undo.end(uow, import_id, state)


JOB = JobType(
    key="undo_import",
    title="Undo an import of contacts",
    queue="import",
    run=_work,
    arguments=Arguments,
    timeout_s=6 * 3600,
    max_attempts=_MOST_ATTEMPTS,
    retry_first_s=2.0,
    retry_most_s=120.0,
)
