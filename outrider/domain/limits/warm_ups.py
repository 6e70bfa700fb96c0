"""Warm-ups: what people do about the plan of a sender: begin, look, pause, go on, skip, begin anew, change, end.

Owns table `warm_ups` as people change it; a plan goes on by itself from claim to claim (allowances.py). Whatever is
changed, what was counted today goes on to count. After a change call `holds.release_sender` of the messages with
`allowances.GATE`, so that what is held is asked about again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.limits.accounts import zone_of
from outrider.domain.limits.allowances import Standing, day_of, hour_end, standing_of
from outrider.domain.limits.plans import OWN, Step, days_for, steps_of
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.limits.rows import PACES as SQL
from outrider.domain.limits.rows import SPENDING
from outrider.domain.limits.rows import SQL as LIMITS

_FARTHEST = timedelta(days=366)
MOST_RESERVE = 50


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a plan treats what it counts.

    is_transactional_exempt   transactional messages are neither counted nor held; else they count and go first
    reserve_percent           how much of each day bulk leaves to transactional messages, where the sender sends such
    most_bounces_percent      a day on which more came back does not take the plan further; so with complaints
    """

    is_transactional_exempt: bool = False
    reserve_percent: int = 10
    most_bounces_percent: float = 5.0
    most_complaints_percent: float = 0.1


class WarmUp(msgspec.Struct, frozen=True):
    """A sender's plan and where it stands. `step`: the day of the plan, from 1; `note`: why it stays there."""

    sender_id: UUID
    sender: str
    plan: str
    steps: list[Step]
    state: str
    step: int
    starts_on: date
    day_on: date
    day_sent: int
    day_allowed: int
    day_ends_at: datetime
    options: Options
    note: str
    created_at: datetime
    finished_at: datetime | None


async def begin(
    uow: UnitOfWork,
    actor: Actor,
    sender_id: UUID,
    plan: str,
    *,
    steps: Sequence[Step] | None = None,
    starts_on: date | None = None,
    options: Options | None = None,
    reason: str = NOT_GIVEN,
) -> WarmUp:
    """Give a sender a plan from a day of the tenant's zone on, by default today; one it has is begun anew. Audited.

    Raises:  Refused(not_found, unknown_plan, invalid_steps, invalid_start, invalid_percent).
    """
    options = options or Options()
    chosen = steps_of(plan, steps)
    _check(options)
    if not await LIMITS.switch_target.value(uow.raw, uow.tenant, "sender", sender_id):
        raise Refused("not_found", "no such sender", field="/sender_id", status=404)
    zone = await SPENDING.zone_of_tenant.value(uow.raw, uow.tenant) or "UTC"
    now: datetime = await SQL.now.value(uow.raw)
    today = now.astimezone(zone_of(zone)).date()
    on = starts_on or today
    if not today <= on <= today + _FARTHEST:
        raise Refused("invalid_start", "must be today or a day within a year", field="/starts_on")
    begins, ends = day_of(zone, on)
    await SQL.warm_up_set.one(
        uow.raw, uow.tenant, sender_id, plan, _json(chosen), on, begins, ends, hour_end(now),
        options.is_transactional_exempt, options.reserve_percent, options.most_bounces_percent,
        options.most_complaints_percent,
    )  # fmt: skip
    details = {"plan": plan, "steps": len(chosen), "starts_on": on.isoformat(), **msgspec.to_builtins(options)}
    await _audit(uow, actor, sender_id, "begin", reason, details)
    return await get(uow, sender_id)


async def pause(uow: UnitOfWork, actor: Actor, sender_id: UUID, *, reason: str = NOT_GIVEN) -> WarmUp:
    """Keep a plan on its step, day after day, until it is resumed. Raises Refused(not_found; finished, 409)."""
    return await _changed(uow, actor, sender_id, "pause", reason, state="paused")


async def resume(uow: UnitOfWork, actor: Actor, sender_id: UUID, *, reason: str = NOT_GIVEN) -> WarmUp:
    """Let a plan go on that was paused. Raises Refused(not_found; finished, 409)."""
    return await _changed(uow, actor, sender_id, "resume", reason, state="running")


async def skip(uow: UnitOfWork, actor: Actor, sender_id: UUID, to_step: int, *, reason: str = NOT_GIVEN) -> WarmUp:
    """Put a plan on another of its days, forward or back. Raises Refused(not_found; finished, 409; invalid_step)."""
    standing = await _held(uow, sender_id)
    if not 1 <= to_step <= len(standing.steps):
        raise Refused("invalid_step", f"must be 1 to {len(standing.steps)}", field="/step")
    return await _changed(uow, actor, sender_id, "skip", reason, step=to_step)


async def restart(uow: UnitOfWork, actor: Actor, sender_id: UUID, *, reason: str = NOT_GIVEN) -> WarmUp:
    """Begin a plan anew with its first day; one that is finished runs again. Raises Refused(not_found)."""
    found = await get(uow, sender_id)
    steps = found.steps if found.plan == OWN else None
    return await begin(uow, actor, sender_id, found.plan, steps=steps, options=found.options, reason=reason)


async def adjust(
    uow: UnitOfWork,
    actor: Actor,
    sender_id: UUID,
    *,
    steps: Sequence[Step] | None = None,
    options: Options | None = None,
    reason: str = NOT_GIVEN,
) -> WarmUp:
    """Change the steps of a plan, which is somebody's own then, or how it counts; it stays on its day.

    Raises:  Refused(not_found; finished, 409; invalid_steps, invalid_percent).
    """
    given: dict[str, Any] = {}
    if steps is not None:
        given |= {"plan": OWN, "steps": steps_of(OWN, steps)}
    if options is not None:
        _check(options)
        given |= msgspec.structs.asdict(options)
    return await _changed(uow, actor, sender_id, "adjust", reason, **given)


async def end(uow: UnitOfWork, actor: Actor, sender_id: UUID, *, reason: str = NOT_GIVEN) -> WarmUp:
    """End a plan before its time: nothing is bounded by it from now on. Raises Refused(not_found; finished, 409)."""
    return await _changed(uow, actor, sender_id, "end", reason, state="finished")


async def get(uow: UnitOfWork, sender_id: UUID) -> WarmUp:
    """The plan of a sender. Raises Refused(not_found)."""
    for row in await SQL.warm_ups_of.many(uow.raw, uow.tenant, sender_id):
        return _view(row)
    raise _not_found()


async def listed(uow: UnitOfWork) -> list[WarmUp]:
    """The plans of a tenant's senders, those that run first; at most a thousand."""
    return [_view(row) for row in await SQL.warm_ups_of.many(uow.raw, uow.tenant, None)]


async def ends_at(uow: UnitOfWork, sender_id: UUID, count: int, now: datetime) -> datetime | None:
    """From when on the last of so many messages may go, should a day's mail go each day; None: no plan bounds them."""
    rows = await SQL.warm_ups_of.many(uow.raw, uow.tenant, sender_id)
    if not rows or rows[0]["state"] == "finished":
        return None
    row = rows[0]
    found = _view(row)
    is_over = row["day_ends_at"] <= now
    step = min(found.step + (is_over and bool(found.day_sent)), len(found.steps))
    sent = 0 if is_over else found.day_sent
    days = days_for(found.steps, step, sent, count) if found.state == "running" else _paused_days(found, sent, count)
    zone = zone_of(await SPENDING.zone_of_tenant.value(uow.raw, uow.tenant) or "UTC")
    today = max(now.astimezone(zone).date(), found.starts_on)
    return None if days == 0 else day_of(str(zone), today + timedelta(days=days))[0]


def _paused_days(found: WarmUp, sent: int, count: int) -> int:
    """A plan that rests allows the same each day."""
    per_day = found.day_allowed
    return max(0, -(-(count - max(0, per_day - sent)) // per_day))


async def _changed(
    uow: UnitOfWork, actor: Actor, sender_id: UUID, verb: str, reason: str, *, plan: str | None = None, **given: Any
) -> WarmUp:
    before = await get(uow, sender_id)
    standing = await _held(uow, sender_id)
    after = replace(standing, **given)
    after = replace(after, step=min(after.step, len(after.steps)))
    await SQL.warm_up_change.one(
        uow.raw, uow.tenant, sender_id, plan or before.plan, _json(after.steps), after.state, after.step,
        after.is_transactional_exempt, after.reserve_percent, after.most_bounces_percent,
        after.most_complaints_percent,
    )  # fmt: skip
    details = {name: value for name, value in given.items() if name != "steps"}
    if "steps" in given:
        details["steps"] = [[step.per_day, step.per_hour] for step in after.steps]
    await _audit(uow, actor, sender_id, verb, reason, details)
    return await get(uow, sender_id)


async def _held(uow: UnitOfWork, sender_id: UUID) -> Standing:
    """A plan that is not over, locked: claims wait."""
    row = await SQL.warm_up_get.one(uow.raw, uow.tenant, sender_id)
    if row is None:
        raise _not_found()
    if row["state"] == "finished":
        raise Refused("finished", "the plan is over; begin it anew", field="/sender_id", status=409)
    return standing_of(row)


async def _audit(
    uow: UnitOfWork, actor: Actor, sender_id: UUID, verb: str, reason: str, details: Mapping[str, Any]
) -> None:
    target = ("sender", str(sender_id))
    await append(uow, actor, action=f"warm_up.{verb}", target=target, reason=clean_reason(reason), details=details)


def _check(options: Options) -> None:
    if not 0 <= options.reserve_percent <= MOST_RESERVE:
        raise Refused("invalid_percent", f"must be 0 to {MOST_RESERVE}", field="/options/reserve_percent")
    for name in ("most_bounces_percent", "most_complaints_percent"):
        if not 0 <= getattr(options, name) <= 100:  # noqa: PLR2004 - percent; what is no number fails as well
            raise Refused("invalid_percent", "must be 0 to 100", field=f"/options/{name}")


def _json(steps: Sequence[Step]) -> str:
    return msgspec.json.encode(list(steps)).decode()


def _not_found() -> Refused:
    return Refused("not_found", "this sender has no plan", field="/sender_id", status=404)


def _view(row: asyncpg.Record) -> WarmUp:
    standing = standing_of(row)
    options = Options(
        standing.is_transactional_exempt, standing.reserve_percent, standing.most_bounces_percent,
        standing.most_complaints_percent,
    )  # fmt: skip
    return WarmUp(
        row["sender_id"], row["sender"], row["plan"], list(standing.steps), row["state"], row["step"], row["starts_on"],
        row["day_on"], row["day_sent"], standing.today.per_day, row["day_ends_at"], options, row["note"],
        row["created_at"], row["finished_at"],
    )  # fmt: skip
