"""Allowances: how many messages of a sender that is being warmed up may go now, counted under its plan's row lock.

Owns the days of a plan: a day of the tenant's zone is over at its midnight, and the plan goes on to its next step when
something was sent on it and not too much of that came back. Runs inside the claim's and the recorder's transactions;
what people change about a plan is warm_ups.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import structlog

from outrider.contracts.gate import Candidate, Hold, Lane, MessageClass
from outrider.domain.limits.accounts import zone_of
from outrider.domain.limits.plans import Step, kept_for_transactional
from outrider.domain.limits.rows import PACES as SQL

GATE = "warm_up"
_HOUR = timedelta(hours=1)
_BEHIND = timedelta(seconds=2)
"""So long after transactional messages bulk is asked about again, so that those are first on a new day."""
_LEAST_SENT = 20
"""With fewer messages in a day nobody can say that too many of them came back."""
MOST_COUNTED = 1000
"""As many of a lane as a claim counts."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """What became of a sender's messages since a day of its plan began."""

    sent: int = 0
    bounced: int = 0
    complained: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a plan stands. `step` counts from 1; `day_on` is the day of the tenant's zone that it is on."""

    tenant_id: UUID
    sender_id: UUID
    steps: tuple[Step, ...]
    state: str
    step: int
    starts_on: date
    day_on: date
    day_began_at: datetime
    day_ends_at: datetime
    day_sent: int
    hour_ends_at: datetime
    hour_sent: int
    is_transactional_exempt: bool
    reserve_percent: int
    most_bounces_percent: float
    most_complaints_percent: float
    note: str = ""

    @property
    def today(self) -> Step:
        """What may go on this day."""
        return self.steps[min(self.step, len(self.steps)) - 1]

    @property
    def counted_until(self) -> datetime:
        """When the day is over, or the hour where it is bounded, in which what goes now is counted."""
        return self.day_ends_at if self.today.per_hour is None else min(self.day_ends_at, self.hour_ends_at)

    def room(self, message_class: str, *, urgent: int = 0, has_urgent: bool = False) -> int:
        """How many of a class may go now.

        Takes:   urgent: transactional messages of the sender that wait; has_urgent: whether it sends such at all.
        """
        left = self.today.per_day - self.day_sent
        if self.today.per_hour is not None:
            left = min(left, self.today.per_hour - self.hour_sent)
        if message_class == "bulk" and not self.is_transactional_exempt:
            left -= urgent
            if has_urgent:
                kept = kept_for_transactional(self.today, self.reserve_percent)
                left = min(left, self.today.per_day - kept - self.day_sent)
        return max(0, left)

    def why(self, taken: int) -> tuple[datetime, str]:
        """Until when what is beyond the room is held, and what is said about it; `taken` go just now."""
        step, day = self.today, self.day_sent + taken
        name = f"day {self.step} of {len(self.steps)}"
        if step.per_hour is not None and self.hour_sent + taken >= step.per_hour and day < step.per_day:
            until = min(self.hour_ends_at, self.day_ends_at)
            return until, f"{name}: {self.hour_sent + taken} of {step.per_hour} sent in this hour"
        more = "" if day >= step.per_day else ", the rest is kept for transactional messages"
        return self.day_ends_at, f"{name}: {day} of {step.per_day} sent{more}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A plan that holds messages, how many of its sender are ready and how many transactional ones are held.

    None is counted beyond a thousand of a lane.
    """

    standing: Standing
    has_urgent: bool
    ready_urgent: int
    ready_bulk: int
    held_urgent: int

    def freed(self) -> dict[MessageClass, int]:
        """How many of each class may be asked about again: as many as there is room for and nothing ready yet.

        The places of transactional messages are not bulk's, which would only be held again.
        """
        room = self.standing.room("transactional", has_urgent=self.has_urgent)
        first = max(0, min(room - self.ready_urgent, self.held_urgent))
        room = self.standing.room("bulk", urgent=first + self.ready_urgent, has_urgent=self.has_urgent)
        return {"transactional": first, "bulk": max(0, min(room - self.ready_bulk, MOST_COUNTED))}


@dataclass(slots=True)
class Quota:
    """A locked plan of a batch: what is counted of it once it is known who goes."""

    standing: Standing
    ends_at: datetime
    """What is counted must have begun before this: then the day or hour that it is counted in is over."""

    async def close(self, raw: asyncpg.Connection, token: int, gone: Sequence[Candidate]) -> None:
        """Count those who go."""
        if not gone:
            return
        now = self.standing
        if now.day_sent + len(gone) >= now.today.per_day:
            _log.info(
                "warm_up_used", tenant=str(now.tenant_id), sender=str(now.sender_id), step=now.step,
                allowed=now.today.per_day,
            )  # fmt: skip
        await SQL.warm_up_count.run(
            raw, now.tenant_id, now.sender_id, len(gone), token, [each.id for each in gone], now.day_on,
            now.hour_ends_at,
        )  # fmt: skip


async def ask(
    raw: asyncpg.Connection, lane: Lane, zone: str, candidates: Sequence[Candidate]
) -> tuple[Quota | None, dict[UUID, Hold]]:
    """Say which of a batch may go by the plan of their sender, the first ones first.

    Takes:   candidates that may go by everything before; the claim's transaction with its lane locked.
    Gives:   the plan, to be closed when it is known who goes (None: nothing is counted), and the holds of the others.
    """
    row = await SQL.warm_up_lock.one(raw, lane.tenant_id, lane.sender_id, lane.message_class == "bulk")
    if row is None:
        return None, {}
    standing, now = await _today(raw, standing_of(row), row["now"], zone)
    is_exempt = standing.is_transactional_exempt and lane.message_class == "transactional"
    if standing.state == "finished" or now < standing.day_began_at or is_exempt:
        return None, {}
    room = standing.room(lane.message_class, urgent=row["urgent"], has_urgent=row["has_urgent"])
    held: dict[UUID, Hold] = {}
    if len(candidates) > room:
        until, reason = standing.why(room)
        if lane.message_class == "bulk":
            until += _BEHIND
        held = {candidate.id: Hold(until, reason) for candidate in candidates[room:]}
    return Quota(standing, standing.counted_until), held


async def release(raw: asyncpg.Connection, tenant_id: UUID, ids: Sequence[UUID], tokens: Sequence[int]) -> None:
    """Take back attempts that are known not to have been sent, as long as the day they were counted in lasts."""
    await SQL.warm_up_take_back.run(raw, tenant_id, list(ids), list(tokens))


def standing_of(row: asyncpg.Record) -> Standing:
    """A row of `warm_ups` as the plan it is."""
    names = (name for name in Standing.__dataclass_fields__ if name != "steps")
    values: dict[str, Any] = {name: row[name] for name in names}
    return Standing(**values, steps=tuple(msgspec.json.decode(row["steps"], type=list[Step])))


def day_of(zone: str, on: date) -> tuple[datetime, datetime]:
    """When a day of a zone begins and ends, as instants."""
    begins, ends = (datetime.combine(day, time(0), tzinfo=zone_of(zone)) for day in (on, on + timedelta(days=1)))
    return begins.astimezone(UTC), ends.astimezone(UTC)


def hour_end(now: datetime) -> datetime:
    """When the hour of the clock that an instant lies in is over."""
    return now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + _HOUR


def next_day(standing: Standing, now: datetime, zone: str, health: Health) -> Standing:
    """The plan on a new day: a step further when the day before was used and went well."""
    on = now.astimezone(zone_of(zone)).date()
    step, note = standing.step, standing.note
    if standing.day_sent and standing.state == "running":
        note = unhealthy(standing, health)
        step += not note
    begins, ends = day_of(zone, on)
    state = "finished" if step > len(standing.steps) else standing.state
    return replace(
        standing, state=state, step=min(step, len(standing.steps)), note=note, day_on=on, day_began_at=begins,
        day_ends_at=ends, day_sent=0,
    )  # fmt: skip


def unhealthy(standing: Standing, health: Health) -> str:
    """Why a plan stays on its step; empty when it goes on."""
    if health.sent < _LEAST_SENT:
        return ""
    for what, count, most in (
        ("bounced", health.bounced, standing.most_bounces_percent),
        ("complained", health.complained, standing.most_complaints_percent),
    ):
        percent = 100 * count / health.sent
        if percent > most:
            return f"stays on day {standing.step}: {percent:.1f} % {what}, more than {most:g} %"
    return ""


async def _today(raw: asyncpg.Connection, standing: Standing, now: datetime, zone: str) -> tuple[Standing, datetime]:
    """The locked plan as it is now: a day or an hour that is over gives place to the next."""
    before = standing
    if now >= standing.day_ends_at:
        health = Health()
        if standing.day_sent and standing.state == "running":
            row = await SQL.warm_up_health.one(raw, standing.tenant_id, standing.sender_id, standing.day_began_at)
            health = Health(row["sent"], row["bounced"], row["complained"]) if row else Health()
        standing = next_day(standing, now, zone, health)
        _log.info(
            "warm_up_day", tenant=str(standing.tenant_id), sender=str(standing.sender_id), step=standing.step,
            steps=len(standing.steps), state=standing.state, note=standing.note,
        )  # fmt: skip
    if now >= standing.hour_ends_at:
        standing = replace(standing, hour_ends_at=hour_end(now), hour_sent=0)
    if standing is not before:
        await write(raw, standing)
    return standing, now


async def write(raw: asyncpg.Connection, standing: Standing) -> None:
    """Write where a locked plan stands."""
    await SQL.warm_up_write.run(
        raw, standing.tenant_id, standing.sender_id, standing.state, standing.step, standing.day_on,
        standing.day_began_at, standing.day_ends_at, standing.day_sent, standing.hour_ends_at, standing.hour_sent,
        standing.note,
    )  # fmt: skip


async def with_room(raw: asyncpg.Connection, behind: tuple[UUID, UUID], *, most: int) -> list[Waiting]:
    """Plans of all tenants in whose day there is room and that hold something, in the order of tenant and sender.

    Takes:   behind: tenant and sender of the last one seen.
    """
    rows = await SQL.warm_ups_with_room.many(raw, *behind, most, MOST_COUNTED)
    return [
        Waiting(standing_of(row), row["has_urgent"], row["ready_urgent"], row["ready_bulk"], row["held_urgent"])
        for row in rows
    ]


async def states(raw: asyncpg.Connection) -> dict[str, int]:
    """How many plans of the whole installation run, rest, or have used up their day."""
    return {row["state"]: row["n"] for row in await SQL.warm_up_states.many(raw)}
