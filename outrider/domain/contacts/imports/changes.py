"""The difference view of an import: per contact and field what was before and what is after. Only looks."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import orjson

from outrider.base.ids import NIL
from outrider.data.db import UnitOfWork
from outrider.domain.contacts.imports import control
from outrider.domain.contacts.rows import IMPORTS as SQL


class FieldChange(msgspec.Struct, frozen=True):
    """One field, such as name or `attributes.<key>`; or what was added: addresses, tags, lists."""

    field: str
    before: Any
    after: Any


class ChangeView(msgspec.Struct, frozen=True):
    """What an import did to one contact, or a dry run would do; `is_new`: it made the contact.

    `outcome` is what undoing the import did: restored, deleted, partly or left; `reasons` names what was left, and why.
    """

    contact_id: UUID
    line: int
    address: str
    is_new: bool
    fields: list[FieldChange]
    at: datetime
    outcome: str | None
    reasons: list[str]


async def listed(
    uow: UnitOfWork,
    import_id: UUID,
    *,
    limit: int,
    after: UUID | None = None,
    is_new: bool | None = None,
    outcome: str | None = None,
) -> list[ChangeView]:
    """Changes by contact, `limit` (1..1000) of those after `after`; of a dry run the first 10,000 are kept.

    Raises:  Refused(not_found).
    """
    await control.get(uow, import_id)
    key = (uow.raw, uow.tenant, import_id, after or NIL, limit, is_new, outcome)
    return [_view(dict(row)) for row in await SQL.changes_page.many(*key)]


def _view(row: dict[str, Any]) -> ChangeView:
    before, after = orjson.loads(row.pop("before")), orjson.loads(row.pop("after"))
    was = before.get("attributes", {})
    fields = [
        FieldChange(f"attributes.{key}", was.get(key), value) for key, value in after.pop("attributes", {}).items()
    ]
    fields += [FieldChange(name, before.get(name), value) for name, value in after.items()]
    fields.sort(key=lambda one: one.field)
    return ChangeView(fields=fields, reasons=orjson.loads(row.pop("reasons")), **row)
