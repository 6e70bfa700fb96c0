"""Warm-ups: how many messages a new sender may send on each day, until it is known."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.data.db import Role
from outrider.domain.limits import allowances, plans, warm_ups
from outrider.domain.limits.plans import Step
from outrider.domain.messages import holds
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.options import CHANGING, COMMON, JSON, Changing, Common, Json, between, whole_number
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import Work, changing, looking, note

APP = App(name="warm-up")

_COLUMNS = ("sender", "plan", "state", "day", "sent", "day_ends_at", "note")
Sender = Annotated[str, Parameter(help="The sender, by name or id.")]
Steps = Annotated[
    list[str] | None,
    Parameter(name="--step", help="A day of your own plan, several times: 200, or 200/40 with 40 an hour at most."),
]
Percent = Annotated[str | None, Parameter(help="A percentage, such as 5 or 0.1.")]
Reserve = Annotated[str | None, Parameter(help="Percent of each day that bulk leaves to transactional.")]
Transactional = Annotated[
    Literal["first", "exempt"] | None,
    Parameter(help="Transactional messages count and go first (preset), or are exempt: neither counted nor held."),
]


Change = Callable[..., Awaitable[warm_ups.WarmUp]]


@APP.command(name="list")
async def list_(*, options: Common = COMMON) -> Answer:
    """List the plans of a tenant's senders and where they stand.

    Example: `outrider warm-up list`
    """
    async with looking(options) as work:
        found = await warm_ups.listed(work.uow)
    return Answer(msgspec.to_builtins(found), table([_row(each) for each in found], _COLUMNS, empty="no warm-ups"))


@APP.command(name="plans")
async def plans_(*, options: Json = JSON) -> Answer:
    """List the named plans and what they allow day after day.

    Example: `outrider warm-up plans`
    """
    del options
    rows = [
        {"plan": name, "days": len(steps), "per_day": " ".join(str(step.per_day) for step in steps)}
        for name, steps in plans.PLANS.items()
    ]
    data = {name: msgspec.to_builtins(steps) for name, steps in plans.PLANS.items()}
    return Answer(data, table(rows, ("plan", "days", "per_day"), empty=""))


@APP.command
async def begin(
    sender: Sender,
    *,
    plan: str = "standard",
    steps: Steps = None,
    starts: str | None = None,
    transactional: Transactional = None,
    reserve: Reserve = None,
    bounces: Percent = None,
    complaints: Percent = None,
    options: Changing = CHANGING,
) -> Answer:
    """Warm a sender up by a plan; it goes on by itself, day after day.

    Example: `outrider warm-up begin shop --plan gentle --starts 2027-01-31`

    Parameters
    ----------
    plan
        A named plan (`outrider warm-up plans`), or own with --step.
    starts
        Its first day, such as 2027-01-31, in the tenant's zone; today when absent.
    """
    wanted = _options(warm_ups.Options(), transactional, reserve, bounces, complaints)
    own = None if steps is None else _steps(steps)
    async with changing(options, role=Role.ENGINE) as work:
        sender_id = await campaigns.sender_id(work.uow, sender, field="sender")
        made = await warm_ups.begin(
            work.uow, work.actor, sender_id, plans.OWN if own else plan, steps=own, starts_on=_date(starts),
            options=wanted, reason=options.reason,
        )  # fmt: skip
        return await _done(work, made, options)


@APP.command
async def pause(sender: Sender, *, options: Changing = CHANGING) -> Answer:
    """Keep a plan on its day until it is resumed.

    Example: `outrider warm-up pause shop`
    """
    return await _changed(sender, options, warm_ups.pause)


@APP.command
async def resume(sender: Sender, *, options: Changing = CHANGING) -> Answer:
    """Let a plan go on that was paused.

    Example: `outrider warm-up resume shop`
    """
    return await _changed(sender, options, warm_ups.resume)


@APP.command
async def skip(
    sender: Sender,
    *,
    to: Annotated[int, Parameter(converter=whole_number, validator=between(1, plans.MOST_STEPS), n_tokens=1)],
    options: Changing = CHANGING,
) -> Answer:
    """Put a plan on another of its days, forward or back.

    Example: `outrider warm-up skip shop --to 5`

    Parameters
    ----------
    to
        The day of the plan that today is then.
    """
    return await _changed(sender, options, warm_ups.skip, to)


@APP.command
async def restart(sender: Sender, *, options: Changing = CHANGING) -> Answer:
    """Begin a plan anew with its first day; what was sent today goes on to count.

    Example: `outrider warm-up restart shop`
    """
    return await _changed(sender, options, warm_ups.restart)


@APP.command
async def adjust(
    sender: Sender,
    *,
    steps: Steps = None,
    transactional: Transactional = None,
    reserve: Reserve = None,
    bounces: Percent = None,
    complaints: Percent = None,
    options: Changing = CHANGING,
) -> Answer:
    """Change the days of a plan, or how it counts; it stays on its day.

    Example: `outrider warm-up adjust shop --step 50 --step 100`
    """
    async with changing(options, role=Role.ENGINE) as work:
        sender_id = await campaigns.sender_id(work.uow, sender, field="sender")
        before = await warm_ups.get(work.uow, sender_id)
        wanted = _options(before.options, transactional, reserve, bounces, complaints)
        made = await warm_ups.adjust(
            work.uow, work.actor, sender_id, steps=None if steps is None else _steps(steps), options=wanted,
            reason=options.reason,
        )  # fmt: skip
        return await _done(work, made, options)


@APP.command
async def end(sender: Sender, *, options: Changing = CHANGING) -> Answer:
    """End a plan before its time: it bounds nothing any more.

    Example: `outrider warm-up end shop`
    """
    return await _changed(sender, options, warm_ups.end)


async def _changed(sender: str, options: Changing, change: Change, *more: int) -> Answer:
    async with changing(options, role=Role.ENGINE) as work:
        sender_id = await campaigns.sender_id(work.uow, sender, field="sender")
        made = await change(work.uow, work.actor, sender_id, *more, reason=options.reason)
        return await _done(work, made, options)


async def _done(work: Work, made: warm_ups.WarmUp, options: Changing) -> Answer:
    """What is held is judged by the plan as it is now."""
    await holds.release_sender(work.uow, allowances.GATE, made.sender_id)
    text = (
        f"{made.sender}: {made.state}, day {made.step} of {len(made.steps)}, {made.day_sent} of {made.day_allowed} sent"
    )
    return Answer(msgspec.to_builtins(made), note(text, dry_run=options.dry_run))


def _row(found: warm_ups.WarmUp) -> dict[str, Any]:
    return {
        "sender": found.sender,
        "plan": found.plan,
        "state": found.state,
        "day": f"{found.step} of {len(found.steps)}",
        "sent": f"{found.day_sent} of {found.day_allowed}",
        "day_ends_at": found.day_ends_at,
        "note": found.note,
    }


def _options(
    before: warm_ups.Options,
    transactional: str | None,
    reserve: str | None,
    bounces: str | None,
    complaints: str | None,
) -> warm_ups.Options:
    """The options with those changed that were given."""
    return warm_ups.Options(
        before.is_transactional_exempt if transactional is None else transactional == "exempt",
        before.reserve_percent if reserve is None else _whole(reserve, "--reserve"),
        before.most_bounces_percent if bounces is None else _number(bounces, "--bounces"),
        before.most_complaints_percent if complaints is None else _number(complaints, "--complaints"),
    )


def _steps(texts: list[str]) -> list[Step]:
    steps = []
    for text in texts:
        day, _slash, hour = text.partition("/")
        steps.append(Step(_whole(day, "--step"), _whole(hour, "--step") if _slash else None))
    return steps


def _whole(text: str, field: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:  # noqa: PLR2004 - beyond every bound
        raise Refused("invalid_number", "must be a whole number in plain digits", field=field)
    return int(text)


def _number(text: str, field: str) -> float:
    if not text.isascii() or not text.replace(".", "", 1).isdigit():
        raise Refused("invalid_number", "must be a number such as 5 or 0.1", field=field)
    return float(text)


def _date(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise Refused("invalid_date", "must be a date such as 2027-01-31", field="--starts") from None
