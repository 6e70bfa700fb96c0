"""Segments: made, changed and deleted; counted before use; and who belongs to them now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import asyncpg
import msgspec
from msgspec import UNSET, UnsetType

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts import attributes, read, values
from outrider.domain.contacts.views import ContactView
from outrider.domain.segments import check, rules
from outrider.domain.segments.compile import World, placed, world_of
from outrider.domain.segments.rows import SQL, Statement

COUNT_WITHIN_MS = 25_000
"""Longer than this nobody waits for an answer; what is launched or exported takes the time it needs."""

LONGEST_DESCRIPTION = 2_000
Label = Annotated[str, msgspec.Meta(max_length=200)]


class NewSegment(msgspec.Struct, forbid_unknown_fields=True):
    """A segment to be made."""

    name: Label
    rules: rules.Rule
    description: str = ""


class SegmentChange(msgspec.Struct, forbid_unknown_fields=True):
    """What shall be different; what is not named stays."""

    name: Label | UnsetType = UNSET
    rules: rules.Rule | UnsetType = UNSET
    description: str | UnsetType = UNSET


class SegmentView(msgspec.Struct, frozen=True):
    """A segment; `contact_count` is what was counted at `counted_at`, null after a change of its rules."""

    id: UUID
    name: str
    description: str
    rules: rules.Rule
    contact_count: int | None
    counted_at: datetime | None
    created_by: str
    created_at: datetime
    updated_at: datetime


class Count(msgspec.Struct, frozen=True):
    """How many contacts rules hold for now, and how many of them have an address in the channel, when one was named."""

    contact_count: int
    with_address_count: int | None
    channel: str | None


async def create(uow: UnitOfWork, actor: Actor, new: NewSegment) -> SegmentView:
    """Make a segment.

    Raises:  Refused naming the rule that does not fit; Refused(name_taken, 409).
    """
    await check.checked(uow, new.rules, await attributes.listed(uow))
    segment_id = await SQL.insert_segment.value(
        uow.raw,
        uow.tenant,
        values.check_label(new.name),
        _checked_description(new.description),
        check.encode(new.rules),
        actor.name,
    )
    if segment_id is None:
        raise _name_taken()
    await append(uow, actor, action="segment.create", target=("segment", str(segment_id)), details={"name": new.name})
    return await get(uow, segment_id)


async def update(uow: UnitOfWork, actor: Actor, segment_id: UUID, change: SegmentChange) -> SegmentView:
    """Change a segment. Campaigns launched before keep what it said then.

    Raises:  Refused(not_found; name_taken, 409); Refused naming the rule that does not fit.
    """
    if await SQL.lock_segment.value(uow.raw, uow.tenant, segment_id) is None:
        raise _unknown()
    old = await get(uow, segment_id)
    wanted = old.rules if isinstance(change.rules, UnsetType) else change.rules
    name = old.name if isinstance(change.name, UnsetType) else values.check_label(change.name)
    told = old.description if isinstance(change.description, UnsetType) else _checked_description(change.description)
    try:
        row = (uow.raw, uow.tenant, segment_id, name, told, check.encode(wanted))
        changed = await SQL.update_segment.value(*row)
    except asyncpg.UniqueViolationError:  # somebody took it since we looked
        changed = None
    if changed is None:
        raise _name_taken()
    # after the change: a segment that would contain itself is met on the way down
    await check.checked(uow, rules.InSegment(segment_id), await attributes.listed(uow), field="")
    fields = [field for field in change.__struct_fields__ if getattr(change, field) is not UNSET]
    await append(uow, actor, action="segment.update", target=("segment", str(segment_id)), details={"fields": fields})
    return await get(uow, segment_id)


async def delete(uow: UnitOfWork, actor: Actor, segment_id: UUID) -> None:
    """Delete a segment that nothing names.

    Raises:  Refused(not_found); Refused(segment_in_use, 409) while a campaign or another segment names it.
    """
    if naming := await SQL.segments_naming.many(uow.raw, uow.tenant, str(segment_id)):
        names = ", ".join(row["name"] for row in naming)
        raise Refused("segment_in_use", f"other segments name this one: {names[:300]}", field="/id", status=409)
    try:
        name = await SQL.delete_segment.value(uow.raw, uow.tenant, segment_id)
    except asyncpg.ForeignKeyViolationError:
        raise Refused("segment_in_use", "a campaign goes to this segment", field="/id", status=409) from None
    if name is None:
        raise _unknown()
    await append(uow, actor, action="segment.delete", target=("segment", str(segment_id)), details={"name": name})


async def get(uow: UnitOfWork, segment_id: UUID, *, field: str = "/id") -> SegmentView:
    """One segment.

    Raises:  Refused(not_found).
    """
    rows = await SQL.segments_by_id.many(uow.raw, uow.tenant, [segment_id])
    if not rows:
        raise _unknown(field)
    return _view(rows[0])


async def listed(uow: UnitOfWork, *, limit: int, after: UUID | None = None) -> list[SegmentView]:
    """Segments in the order they were made, `limit` (1..1000) of those after `after`."""
    return [_view(row) for row in await SQL.segments_page.many(uow.raw, uow.tenant, after or NIL, limit)]


async def count(
    uow: UnitOfWork, rule: rules.Rule, *, channel: str | None = None, within_ms: int = COUNT_WITHIN_MS
) -> Count:
    """How many contacts some rules hold for now.

    Takes:   channel: also count who has an address in it; that takes several times as long; within_ms: how long it may
             take at most.
    Raises:  Refused naming the rule that does not fit; Unavailable when it takes longer than that.
    """
    whole = await check.checked(uow, rule, await attributes.listed(uow))
    await SQL.plan_for_values.run(uow.raw, str(within_ms))
    here = await world(uow)
    if channel is None:
        statement, arguments = placed(SQL.count_contacts, whole, here, uow.tenant)
    else:
        statement, arguments = placed(SQL.count_with_address, whole, here, uow.tenant, channel)
    (row,) = await statement.many(uow.raw, *arguments)
    return Count(row["contact_count"], row["with_address_count"], channel)


async def count_segment(uow: UnitOfWork, segment_id: UUID, *, channel: str | None = None) -> Count:
    """Count a segment and keep the number with it.

    Raises:  Refused(not_found), as `count`.
    """
    await get(uow, segment_id)
    found = await count(uow, rules.InSegment(segment_id), channel=channel)
    await SQL.keep_count.run(uow.raw, uow.tenant, segment_id, found.contact_count)
    return found


async def contacts(
    uow: UnitOfWork, rule: rules.Rule, *, limit: int, after: UUID | None = None
) -> Sequence[ContactView]:
    """Contacts for whom some rules hold, in the order they were made, `limit` (1..1000) of those after `after`.

    Raises:  as `count`.
    """
    whole = await check.checked(uow, rule, await attributes.listed(uow))
    await SQL.plan_for_values.run(uow.raw, str(COUNT_WITHIN_MS))
    own = (uow.tenant, after or NIL, limit)
    statement, arguments = placed(SQL.contact_ids_of, whole, await world(uow), *own)
    return await read.by_ids(uow, [row["id"] for row in await statement.many(uow.raw, *arguments)])


async def world(uow: UnitOfWork, now: datetime | None = None) -> World:
    """What rules mean something in, for the tenant of a unit of work: at the database's clock, or at a given moment."""
    moment = now or await SQL.now.value(uow.raw)
    timezone = await SQL.tenant_timezone.value(uow.raw, uow.tenant)
    return world_of(moment, timezone or "UTC", await attributes.listed(uow))


async def settled(
    uow: UnitOfWork, statement: Statement, rule: rules.Rule, *own: object, now: datetime, within_ms: int
) -> list[asyncpg.Record]:
    """Run a statement that has a place for rules, for rules that were checked and frozen, as of a moment."""
    await SQL.plan_for_values.run(uow.raw, str(within_ms))
    whole, arguments = placed(statement, rule, await world(uow, now), *own)
    return await whole.many(uow.raw, *arguments)


def _view(row: asyncpg.Record) -> SegmentView:
    return SegmentView(**{**dict(row), "rules": check.decode(row["rules"])})


def _checked_description(text: str) -> str:
    if len(text) > LONGEST_DESCRIPTION:
        raise Refused("field_too_long", f"must have at most {LONGEST_DESCRIPTION} characters", field="/description")
    return values.check_attribute_text(text, field="/description")


def _unknown(field: str = "/id") -> Refused:
    return Refused("not_found", "no such segment", field=field, status=404)


def _name_taken() -> Refused:
    return Refused("name_taken", "another segment has this name", field="/name", status=409)
