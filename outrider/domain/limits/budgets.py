"""Budgets of a tenant and its campaigns: limits per day and month, what is spent, raising and resetting.

Owns the verbs of people. What claims take is in charges.py; what is held for lack of money is made ready by
`domain.messages.holds.release`, which callers run after a raise or a reset.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal, cast
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.limits import accounts
from outrider.domain.limits.accounts import Account, Scope, cents
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.limits.rows import SPENDING
from outrider.domain.tenants.rows import SQL as TENANTS

GATE = "budget"
"""What the reasons of messages held for lack of money begin with."""
MOST_CENTS = 10**13
Period = Literal["day", "month", "both"]
_COLUMNS = {
    "daily_spent_cents": "budget.reset", "monthly_spent_cents": "budget.reset",
    "daily_budget_cents": "budget.set", "monthly_budget_cents": "budget.set",
}  # fmt: skip


class Budget(msgspec.Struct, frozen=True):
    """A budget and what is spent of it, in whole cents of the tenant's currency; a limit of null is none.

    `…_ends_at` is null until something is spent in the period.
    """

    scope: str
    scope_id: UUID
    daily_cents: int | None
    monthly_cents: int | None
    daily_spent_cents: int
    monthly_spent_cents: int
    day_ends_at: datetime | None
    month_ends_at: datetime | None


class BudgetEvent(msgspec.Struct, frozen=True):
    """A budget was used up to a share in percent; once per period."""

    scope: str
    scope_id: UUID
    period: str
    period_on: date
    percent: int
    spent_cents: int
    limit_cents: int
    at: datetime


class Used(msgspec.Struct, frozen=True):
    """What a tenant spent in a period, and of which limit (None: without one)."""

    tenant_id: UUID
    period: str
    spent_cents: int
    limit_cents: int | None

    @property
    def percent(self) -> float:
        """How much of the limit is used; a limit of nothing is used up."""
        if self.limit_cents is None:
            return 0.0
        return round(100 * self.spent_cents / self.limit_cents, 2) if self.limit_cents else 100.0


async def most_used(uow: UnitOfWork, most: int) -> list[Used]:
    """Day and month of the tenants that used the most of a limit, then of those that spent the most (engine role)."""
    found = []
    for row in await SPENDING.budgets_most_used.many(uow.raw, most):
        found.append(Used(row["tenant_id"], "day", cents(row["day_spent_micros"]), row["daily_cents"]))
        found.append(Used(row["tenant_id"], "month", cents(row["month_spent_micros"]), row["monthly_cents"]))
    return found


async def listed(uow: UnitOfWork) -> list[Budget]:
    """The tenant's budget, then those of its campaigns."""
    return [_budget(row) for row in await SPENDING.budgets_of.many(uow.raw, uow.tenant, None, None)]


async def read(uow: UnitOfWork, scope: str, scope_id: UUID) -> Budget:
    """One budget; a retry has that of the campaign it sends again. Raises Refused(unknown_scope, not_found)."""
    kind, scope_id = await _place(uow, scope, scope_id)
    rows = await SPENDING.budgets_of.many(uow.raw, uow.tenant, kind, scope_id)
    return _budget(rows[0]) if rows else Budget(kind, scope_id, None, None, 0, 0, None, None)


async def set_budget(
    uow: UnitOfWork,
    actor: Actor,
    scope: str,
    scope_id: UUID,
    *,
    daily_cents: int | None,
    monthly_cents: int | None,
    reason: str = NOT_GIVEN,
) -> Budget:
    """Set both limits; None is no limit, 0 lets nothing go that costs anything. Holds from the next claim on. Audited.

    Takes:   a unit of work of the engine role. A retry stands for the campaign it sends again: they share one budget.
    Raises:  Refused(unknown_scope, not_found, invalid_budget).
    """
    kind, scope_id = await _place(uow, scope, scope_id)
    for name, value in (("daily_cents", daily_cents), ("monthly_cents", monthly_cents)):
        if value is not None and not 0 <= value <= MOST_CENTS:
            raise Refused("invalid_budget", f"must be 0 to {MOST_CENTS:,} cents", field=f"/{name}")
    before = await read(uow, kind, scope_id)
    if kind == "tenant":  # the tenant's row before its account, as claims lock them
        await TENANTS.tenant_budget_set.run(uow.raw, uow.tenant, daily_cents, monthly_cents)
        await _locked(uow, kind, scope_id)
        # a claim that waits for the lock has read the former limits, and may hold by them when this is over
        await SPENDING.account_free.run(uow.raw, uow.tenant, kind, scope_id)
    else:
        await _locked(uow, kind, scope_id)
        await SPENDING.budget_of_campaign_set.run(uow.raw, uow.tenant, scope_id, daily_cents, monthly_cents)
    details = {
        "daily_cents": [before.daily_cents, daily_cents], "monthly_cents": [before.monthly_cents, monthly_cents],
    }  # fmt: skip
    await append(
        uow, actor, action="budget.set", target=(kind, str(scope_id)), reason=clean_reason(reason), details=details
    )
    return await read(uow, kind, scope_id)


async def reset(
    uow: UnitOfWork, actor: Actor, scope: str, scope_id: UUID, period: Period, *, reason: str = NOT_GIVEN
) -> Budget:
    """Count what is spent from nothing again: the day, the month or both. Audited with what was spent. Engine role.

    Raises:  Refused(unknown_scope, not_found).
    """
    kind, scope_id = await _place(uow, scope, scope_id)
    account = await _locked(uow, kind, scope_id)
    was = {pot.period: cents(pot.spent) for pot in (account.day, account.month) if period in {pot.period, "both"}}
    for pot in (account.day, account.month):
        if pot.period in was:
            pot.spent = 0
    await accounts.write(uow.raw, account)
    await append(
        uow, actor, action="budget.reset", target=(kind, str(scope_id)), reason=clean_reason(reason),
        details={f"{name}_spent_cents": value for name, value in was.items()},
    )  # fmt: skip
    return await read(uow, kind, scope_id)


Place = tuple[datetime, str, UUID, str, date, int]
"""Where a reader of notes stopped: moment, scope and its id, period and its day, percent of the last one."""


def place_of(event: BudgetEvent) -> Place:
    """Where a reader goes on who was given this note last."""
    return event.at, event.scope, event.scope_id, event.period, event.period_on, event.percent


async def events(uow: UnitOfWork, *, limit: int = 100, before: Place | None = None) -> list[BudgetEvent]:
    """The newest notes about budgets, `limit` (1..1000) of those before a place."""
    rows = await SPENDING.budget_events_of.many(uow.raw, uow.tenant, limit, *(before or (None,) * 6))
    return [BudgetEvent(**dict(row)) for row in rows]


async def adopt_hand_changes(uow: UnitOfWork) -> list[UUID]:
    """Write UPDATEs that people made with psql into the audit log (engine role, no tenant).

    Gives:   the tenants concerned, whose held messages are to be asked about again.
    """
    rows = sorted(await SPENDING.hand_changes_take.many(uow.raw), key=lambda row: (row["tenant_id"], row["at"]))
    for row in rows:
        await append(
            uow, Actor("system", f"sql:{row['by_login']}"), action=_COLUMNS.get(row["what"], "budget.set"),
            target=("tenant", str(row["tenant_id"])), reason="by hand in SQL",
            details={row["what"]: [row["before_cents"], row["after_cents"]], "at": row["at"].isoformat()},
            tenant_id=row["tenant_id"],
        )  # fmt: skip
    return sorted({row["tenant_id"] for row in rows})


async def freed(uow: UnitOfWork) -> list[tuple[UUID, UUID | None]]:
    """Tenants, with the campaign where it was one's, to whose accounts money came back while messages wait for it.

    Takes:   a unit of work of the engine role, without a tenant. Each is told until `asked`, or until somebody lacks
             its money again: else what came back at once would be too much for the few that are asked about.
    """
    rows = await SPENDING.accounts_freed.many(uow.raw)
    return [(row["tenant_id"], row["scope_id"] if row["scope"] == "campaign" else None) for row in rows]


async def asked(uow: UnitOfWork, campaign_id: UUID | None) -> None:
    """Note that all that waited for money of the tenant, or of a campaign, was asked about since `freed` told of it."""
    scope, scope_id = ("tenant", uow.tenant) if campaign_id is None else ("campaign", campaign_id)
    await SPENDING.account_asked.run(uow.raw, uow.tenant, scope, scope_id)


async def _locked(uow: UnitOfWork, scope: Scope, scope_id: UUID) -> Account:
    zone = await SPENDING.zone_of_tenant.value(uow.raw, uow.tenant) or "UTC"
    return await accounts.lock(uow.raw, uow.tenant, scope, scope_id, zone)


async def _place(uow: UnitOfWork, scope: str, scope_id: UUID) -> tuple[Scope, UUID]:
    """Whose account it is."""
    if scope not in {"tenant", "campaign"}:
        raise Refused("unknown_scope", "must be tenant or campaign", field="/scope")
    if scope == "tenant":
        found = scope_id if scope_id == uow.tenant else None
    else:
        found = await SPENDING.payer_of.value(uow.raw, uow.tenant, scope_id)
    if found is None:
        raise Refused("not_found", f"no such {scope}", field="/id", status=404)
    return cast("Scope", scope), found


def _budget(row: asyncpg.Record) -> Budget:
    return Budget(
        row["scope"], row["scope_id"], row["daily_cents"], row["monthly_cents"], cents(row["day_spent_micros"]),
        cents(row["month_spent_micros"]), row["day_ends_at"], row["month_ends_at"],
    )  # fmt: skip
