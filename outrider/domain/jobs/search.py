"""Looking jobs up: one with its history, or many by filter, newest first; and the selection that `…_many` works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from outrider.base.errors import Refused
from outrider.data.db import UnitOfWork
from outrider.domain.jobs.rows import SQL
from outrider.domain.jobs.views import Job, StateChange, change_of, job_of

LAST = UUID(int=2**128 - 1)
LONGEST_TEXT = 200


@dataclass(frozen=True, slots=True)
class Filter:
    """What to look for; None leaves a filter off.

    states     our words (`states.state_named` reads the runbooks')
    text       somewhere in arguments, error, reason or who enqueued it; letters' case does not matter
    argument   JSON object that the arguments contain, e.g. {"campaign_id": "…"}
    """

    states: Sequence[str] | None = None
    types: Sequence[str] | None = None
    queues: Sequence[str] | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    argument: Mapping[str, Any] | None = None
    schedule_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """How many jobs a filter finds, and the ids of the oldest of them."""

    count: int
    ids: tuple[UUID, ...]


async def find(uow: UnitOfWork, wanted: Filter, *, limit: int = 50, before: UUID | None = None) -> list[Job]:
    """Jobs of the unit of work's tenant, newest first; `before`: the last id of the page before; limit 1..1000."""
    rows = await SQL.job_search.many(uow.raw, uow.tenant, before or LAST, limit, *_bound(wanted))
    return [job_of(row) for row in rows]


async def select(uow: UnitOfWork, wanted: Filter, *, limit: int = 10_000) -> Selection:
    """Count what a filter finds and give the ids of the oldest `limit`."""
    rows = await SQL.job_select.many(uow.raw, uow.tenant, limit, *_bound(wanted))
    return Selection(rows[0]["in_all"] if rows else 0, tuple(row["id"] for row in rows))


async def get(uow: UnitOfWork, job_id: UUID) -> tuple[Job, list[StateChange]]:
    """One job and every state it was in, oldest first.

    Raises:  Refused(not_found).
    """
    row = await SQL.job_get.one(uow.raw, uow.tenant, job_id)
    if row is None:
        raise Refused("not_found", "no such job", field="job", status=404)
    return job_of(row), [change_of(each) for each in await SQL.job_history.many(uow.raw, uow.tenant, job_id)]


async def look(uow: UnitOfWork, job_id: UUID) -> Job | None:
    """One job; None when there is none, or none any more."""
    row = await SQL.job_get.one(uow.raw, uow.tenant, job_id)
    return None if row is None else job_of(row)


def restricted(wanted: Filter, states: Sequence[str]) -> Filter:
    """The same filter over these states only."""
    both = [state for state in states if wanted.states is None or state in wanted.states]
    return replace(wanted, states=both)


def _bound(wanted: Filter) -> tuple[Any, ...]:
    text = wanted.text
    for field, values in (("type", wanted.types), ("queue", wanted.queues)):
        if not all(_is_storable(value) for value in values or ()):
            raise Refused(f"invalid_{field}", "must be without NUL characters", field=field)
    if text is not None and not (0 < len(text) <= LONGEST_TEXT and _is_storable(text)):
        raise Refused("invalid_text", f"must be 1 to {LONGEST_TEXT} characters", field="text")
    try:
        argument = None if wanted.argument is None else msgspec.json.encode(wanted.argument).decode()
    except (UnicodeEncodeError, RecursionError):
        raise Refused("invalid_argument", "must be plain JSON values", field="argument") from None
    if argument is not None and "\\u0000" in argument:
        raise Refused("invalid_argument", "must be without NUL characters", field="argument")

    def listed(values: Sequence[str] | None) -> list[str] | None:
        return None if values is None else list(values)

    return (
        listed(wanted.states), listed(wanted.types), listed(wanted.queues), wanted.since, wanted.until, argument,
        wanted.schedule_id, text,
    )  # fmt: skip


def _is_storable(text: str) -> bool:
    """Whether a text can be in the database at all: no NUL, no half of a surrogate pair (broken UTF-8 of a shell)."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
