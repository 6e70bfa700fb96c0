"""Accounts: what a tenant, or one of its campaigns, spent in the day and month of the tenant's zone, and what is left.

Owns rolling over, taking and giving back under the account's row lock, and the notes at 50, 80, 90 and 100 percent. The
order of locks is campaigns by id, then the tenant. Money is counted in micros, millionths of the tenant's currency.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import structlog

from outrider.base.errors import Broken
from outrider.domain.limits.rows import SPENDING as SQL

Scope = Literal["campaign", "tenant"]
MICROS_PER_CENT = 10_000
PERCENTS = (50, 80, 90, 100)
_MONTHS = 12
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Pot:
    """One period of an account. `limit` None: unlimited."""

    period: str
    on: date
    ends_at: datetime
    spent: int
    limit: int | None

    @property
    def left(self) -> int | None:
        """Micros that may still be spent; None without a limit."""
        return None if self.limit is None else max(0, self.limit - self.spent)


@dataclass(slots=True)
class Account:
    """A locked account."""

    tenant_id: UUID
    scope: Scope
    scope_id: UUID
    day: Pot
    month: Pot
    before: tuple[int, int] = (0, 0)
    is_short: bool = False
    """Messages wait for its money."""
    is_freed: bool = False
    """Money came back meanwhile: they are to be asked about again; not short any more: they are being asked."""

    def lacking(self, micros: int) -> Pot | None:
        """The period with too little left for so much; the one that ends last when both have."""
        for pot in (self.month, self.day):
            if pot.left is not None and pot.left < micros:
                return pot
        return None

    def lack(self) -> None:
        """Note that a message waits for its money; who is being asked about again need not be any further."""
        self.is_freed &= self.is_short
        self.is_short = True

    def take(self, micros: int) -> None:
        """Spend; the caller has asked `lacking`."""
        self.day.spent += micros
        self.month.spent += micros

    def give_back(self, micros: int, day_on: date, month_on: date) -> None:
        """Return what was taken in a day and month; to another one nothing returns."""
        self.is_freed |= self.is_short and micros > 0
        if day_on == self.day.on:
            self.day.spent = max(0, self.day.spent - micros)
        if month_on == self.month.on:
            self.month.spent = max(0, self.month.spent - micros)


async def lock(raw: asyncpg.Connection, tenant_id: UUID, scope: Scope, scope_id: UUID, zone: str) -> Account:
    """Lock an account, made when there is none, with its day and month as they are now."""
    row = await SQL.account_lock.one(raw, tenant_id, scope, scope_id)
    if row is None:
        await SQL.account_make.run(raw, tenant_id, scope, scope_id)
        row = await SQL.account_lock.one(raw, tenant_id, scope, scope_id)
    if row is None:
        raise Broken("account_lost", "an account that was just made is not there: there is no such tenant")
    wall = row["now"].astimezone(zone_of(zone)).date()
    day = _pot("day", row, wall, zone)
    month = _pot("month", row, wall.replace(day=1), zone)
    return Account(tenant_id, scope, scope_id, day, month, (day.spent, month.spent), row["is_short"], row["is_freed"])


async def write(raw: asyncpg.Connection, account: Account) -> None:
    """Write a locked account, and note which shares of its limits are reached now."""
    day, month = account.day, account.month
    key = (account.tenant_id, account.scope, account.scope_id)
    await SQL.account_write.run(
        raw, *key, day.on, day.ends_at, day.spent, month.on, month.ends_at, month.spent, account.is_short,
        account.is_freed,
    )  # fmt: skip
    for pot, before in ((day, account.before[0]), (month, account.before[1])):
        if not pot.limit or pot.spent <= before:
            continue
        for percent in PERCENTS:
            if before * 100 < percent * pot.limit <= pot.spent * 100:
                await note(raw, account, pot, percent)


async def note(raw: asyncpg.Connection, account: Account, pot: Pot, percent: int) -> None:
    """Note once per period that a share was reached; without a limit there are no shares."""
    if pot.limit is None:
        return
    spent, limit = cents(pot.spent), pot.limit // MICROS_PER_CENT
    key = (account.tenant_id, account.scope, account.scope_id)
    if await SQL.budget_event_add.value(raw, *key, pot.period, pot.on, percent, spent, limit) is not None:
        _log.warning(
            "budget_used", tenant=str(account.tenant_id), scope=account.scope, id=str(account.scope_id),
            period=pot.period, percent=percent, spent_cents=spent, limit_cents=limit,
        )  # fmt: skip


def cents(micros: int) -> int:
    """Whole cents, a begun one counted."""
    return -(-micros // MICROS_PER_CENT)


def zone_of(name: str) -> ZoneInfo:
    """A tenant's zone; UTC when this machine does not know it."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def _pot(period: str, row: asyncpg.Record, on: date, zone: str) -> Pot:
    """The period of a row, or the next one when it is over. One that another has begun already stays."""
    given = row["daily_cents" if period == "day" else "monthly_cents"]
    limit = None if given is None else given * MICROS_PER_CENT
    if row["now"] < row[f"{period}_ends_at"]:
        return Pot(period, row[f"{period}_on"], row[f"{period}_ends_at"], row[f"{period}_spent_micros"], limit)
    return Pot(period, on, _end(period, on, zone), 0, limit)


def _end(period: str, on: date, zone: str) -> datetime:
    """The instant at which a local day or month is over."""
    after = on + timedelta(days=1)
    if period == "month":
        after = date(on.year + on.month // _MONTHS, on.month % _MONTHS + 1, 1)
    return datetime.combine(after, time(0), tzinfo=zone_of(zone)).astimezone(UTC)
