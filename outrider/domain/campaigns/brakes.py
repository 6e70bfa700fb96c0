"""Brakes: a campaign whose recipients leave, complain or cannot be reached too often is paused, and says why.

Counts recipients, not time: in any so many messages that went out one after another, how many left since. A person
decides whether it goes on; what lay before the brake does not count again then.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role
from outrider.domain.campaigns import launch
from outrider.domain.campaigns.rows import BRAKES as SQL
from outrider.domain.campaigns.told import tell
from outrider.domain.limits import switches

_ACTOR: Final = Actor("system", "brake")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Brake:
    """More than `percent` (a setting and its preset) of `window` messages one after another."""

    what: str
    setting: str
    preset: float
    window: int
    reasons: frozenset[str]
    looked_at: int
    """How many of those who left last are looked at."""


BRAKES: Final = (
    Brake("opt-outs", "optout_pause_percent", 3.0, 100, frozenset({"unsubscribe", "stop"}), 100),
    Brake("bounces", "bounce_pause_percent", 10.0, 100, frozenset({"hard_bounce"}), 100),
    Brake("complaints", "complaint_pause_percent", 0.3, 1000, frozenset({"complaint"}), 20),
)


class Watch:
    """One process's look-out: asks nothing further while nobody has left since the last look."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._seen: datetime | None = None

    async def step(self) -> int:
        """Pause every campaign that has to be. Gives how many were."""
        async with self._db.uow(Role.ENGINE) as uow:
            newest = await SQL.newest_loss.value(uow.raw)
            if newest is None or newest == self._seen:
                return 0
            rows = await SQL.losses.many(uow.raw)
        paused = 0
        of_campaign: defaultdict[tuple[UUID, UUID], list[asyncpg.Record]] = defaultdict(list)
        for row in rows:
            of_campaign[row["tenant_id"], row["campaign_id"]].append(row)
        for (tenant_id, campaign_id), lost in of_campaign.items():
            paused += await self._judge(tenant_id, campaign_id, lost)
        self._seen = newest
        return paused

    async def _judge(self, tenant_id: UUID, campaign_id: UUID, lost: Sequence[asyncpg.Record]) -> bool:
        """Pause one campaign when one of its rates is too high."""
        settings = json.loads(lost[0]["settings"])
        async with self._db.uow(Role.ENGINE, tenant_id) as uow:
            for brake in BRAKES:
                reason = await too_many(uow.raw, tenant_id, campaign_id, brake, settings, lost)
                if reason is None:
                    continue
                try:
                    await launch.pause(uow, _ACTOR, campaign_id, reason=reason)
                except Refused:
                    return False  # it has ended, or was cancelled, since we looked
                await SQL.brake_note.run(uow.raw, tenant_id, campaign_id, reason)
                await tell(uow, _ACTOR, campaign_id, "campaign_braked", reason=reason, data={"brake": brake.what})
                _log.warning("campaign_braked", tenant=str(tenant_id), campaign=str(campaign_id), reason=reason)
                break
            else:
                return False
        await switches.settle(self._db, "campaign", tenant_id, str(campaign_id))
        return True


async def too_many(
    raw: asyncpg.Connection,
    tenant_id: UUID,
    campaign_id: UUID,
    brake: Brake,
    settings: Mapping[str, Any],
    lost: Sequence[asyncpg.Record],
) -> str | None:
    """Why a campaign has to be paused; None when it may go on. A percentage of 100 switches a brake off."""
    percent = float(settings.get(brake.setting, brake.preset))
    messages = sorted(row["message_id"] for row in lost if row["reason"] in brake.reasons)
    most = percent * brake.window / 100
    if len(messages) <= most:
        return None
    windows = await SQL.windows.many(raw, tenant_id, campaign_id, messages[-brake.looked_at :], brake.window)
    for window in windows:
        count = sum(window["first"] <= each <= window["last"] for each in messages)
        if count > most:
            return f"{brake.what}: {count} of {window['n']} recipients one after another, above {percent:g} %"
    return None
