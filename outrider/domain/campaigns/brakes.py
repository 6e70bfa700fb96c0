"""Brakes: a campaign whose recipients leave, complain or cannot be reached too often is paused, and says why.

Counts recipients, not time: in any so many messages that went out one after another, how many were lost since, whenever
that was. A person decides whether it goes on; what lay before the brake does not count again then.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import structlog

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role
from outrider.domain.campaigns import launch
from outrider.domain.campaigns.rows import BRAKES as SQL
from outrider.domain.campaigns.told import tell
from outrider.domain.limits import switches
from outrider.domain.messages.rows import FEED
from outrider.domain.tenants.rows import SQL as TENANTS

_ACTOR: Final = Actor("system", "brake")
_log = structlog.get_logger(__name__)

WRONG_ADDRESS: Final = (
    "mailbox_unavailable", "bounced_permanently", "number_invalid", "number_landline", "handset_unknown",
)  # fmt: skip
"""Codes of a message that was refused at once for its address: as much a bounce as one that comes back later."""

_AT_ONCE: Final = 500
_LAGS_S: Final = (0.0, 300.0)
"""Who left is looked at when it is known, and again later: a transaction may commit what bears an earlier moment."""
_EVENTS: Final = 50_000
_READ: Final = 10_000


@dataclass(frozen=True, slots=True)
class Brake:
    """More than `percent` (a setting and its preset) of `window` messages one after another.

    reasons   of the do-not-contact list; none: what became of the messages themselves
    """

    what: str
    setting: str
    preset: float
    window: int
    reasons: frozenset[str] = frozenset()


BOUNCES: Final = Brake("bounces", "bounce_pause_percent", 10.0, 100)
BRAKES: Final = (
    Brake("opt-outs", "optout_pause_percent", 3.0, 100, frozenset({"unsubscribe", "stop"})),
    BOUNCES,
    Brake("complaints", "complaint_pause_percent", 0.3, 1000, frozenset({"complaint"})),
)
_BRAKE_OF: Final = {reason: brake for brake in BRAKES for reason in brake.reasons}

_Key = tuple[UUID, UUID]
"""A tenant and its campaign."""
_Lost = defaultdict[_Key, defaultdict[Brake, set[UUID]]]
"""Messages of campaigns that were lost since the last look."""


class _Place(NamedTuple):
    """Up to where those who left were looked at: a moment, and the key of an entry of it."""

    at: datetime
    tenant_id: UUID = NIL
    channel: str = ""
    address_hash: bytes = b""


@dataclass(frozen=True, slots=True)
class OptOuts:
    """How many people left a tenant on a channel within a day, and how many bulk messages went meanwhile."""

    tenant_id: UUID
    channel: str
    left_count: int
    sent_count: int


async def optouts(raw: asyncpg.Connection, most: int) -> list[OptOuts]:
    """Of the tenants and channels that the most people left, the first so many (engine role)."""
    return [OptOuts(**row) for row in await SQL.optouts.many(raw, most)]


class Watch:
    """One process's look-out: reads what was lost since its last look, and all that counts of campaigns new to it.

    A campaign that begins, or goes on after a pause, is new to it.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[_Key, tuple[datetime, int]] = {}
        self._position = 0
        self._places: dict[float, _Place] = {}
        self.is_behind = False
        """Whether more people have left than one look takes: the next one should come at once."""

    async def step(self) -> int:
        """Pause every campaign that has to be. Gives how many were."""
        lost: _Lost = defaultdict(lambda: defaultdict(set))
        async with self._db.uow(Role.ENGINE) as uow:
            bounds = await FEED.feed_bounds.one(uow.raw, None, None)  # first: what commits meanwhile is read again
            rows = await SQL.sending.many(uow.raw, WRONG_ADDRESS)
            sending = {(row["tenant_id"], row["campaign_id"]): row for row in rows}
            await self._bounced(uow.raw, sending, lost)
            places = {lag_s: await self._left(uow.raw, lag_s, sending, lost) for lag_s in _LAGS_S} if sending else {}
        paused = 0
        for key, messages in lost.items():
            paused += await self._judge(key, sending[key]["channel"], messages)
        self._known = {key: _count(row) for key, row in sending.items()}
        self._position = self._position if bounds is None else bounds["horizon"]
        self._places = {lag_s: place for lag_s, (place, _) in places.items()}
        self.is_behind = any(is_more for _, is_more in places.values())
        return paused

    async def _bounced(self, raw: asyncpg.Connection, sending: Mapping[_Key, asyncpg.Record], lost: _Lost) -> None:
        """Find what came back, in tenants where the number of it changed; nothing else is read."""
        changed: defaultdict[UUID, list[UUID]] = defaultdict(list)
        for (tenant_id, campaign_id), row in sending.items():
            if self._known.get((tenant_id, campaign_id)) != _count(row):
                changed[tenant_id].append(campaign_id)
        for tenant_id, ids in changed.items():
            is_new = any((tenant_id, each) not in self._known for each in ids)
            position = 0 if is_new else self._position
            for row in await SQL.bounced_since.many(raw, tenant_id, position, _EVENTS, ids, WRONG_ADDRESS):
                lost[tenant_id, row["campaign_id"]][BOUNCES].add(row["message_id"])

    async def _left(
        self, raw: asyncpg.Connection, lag_s: float, sending: Mapping[_Key, asyncpg.Record], lost: _Lost
    ) -> tuple[_Place, bool]:
        """Find who left after the last place; gives the next one, and whether there is more."""
        news = [_Place(row["since"]) for key, row in sending.items() if key not in self._known]
        place = min([self._places[lag_s], *news] if lag_s in self._places else news)
        rows = await SQL.left_since.many(raw, *place, lag_s, _AT_ONCE)
        for row in rows:
            key = (row["tenant_id"], row["campaign_id"])
            if key in sending:
                lost[key][_BRAKE_OF[row["reason"]]].add(row["message_id"])
        if not rows:
            return place, False
        last = rows[-1]
        place = _Place(last["created_at"], last["tenant_id"], last["channel"], last["address_hash"])
        return place, len(rows) == _AT_ONCE

    async def _judge(self, key: _Key, channel: str, lost: Mapping[Brake, set[UUID]]) -> bool:
        """Pause one campaign when one of its rates is too high."""
        tenant_id, campaign_id = key
        async with self._db.uow(Role.ENGINE, tenant_id) as uow:
            tenant = await TENANTS.tenant_get.one(uow.raw, tenant_id)
            settings = {} if tenant is None else json.loads(tenant["settings"])
            for brake in BRAKES:
                if not lost.get(brake):
                    continue
                reason = await too_many(uow.raw, key, channel, brake, settings, lost[brake])
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
    key: _Key,
    channel: str,
    brake: Brake,
    settings: Mapping[str, Any],
    lost: Iterable[UUID],
) -> str | None:
    """Why a campaign has to be paused; None when it may go on. A percentage of 100 switches a brake off.

    Takes:   lost  messages around which to look; all that were lost count there, also before
    """
    percent = float(settings.get(brake.setting, brake.preset))
    most = percent * brake.window / 100
    if most >= brake.window:
        return None
    seen = NIL
    for message_id in sorted(lost):
        if message_id <= seen:
            continue
        found = await _near(raw, key, channel, brake, message_id)
        if found is None:
            continue
        if found["lost"] > most:
            return f"{brake.what}: {found['lost']} of {found['n']} recipients one after another, above {percent:g} %"
        seen = found["upto"]
    return None


async def _near(
    raw: asyncpg.Connection, key: _Key, channel: str, brake: Brake, message_id: UUID
) -> asyncpg.Record | None:
    """The worst stretch around a message and behind it."""
    codes, reasons = ((), sorted(brake.reasons)) if brake.reasons else (WRONG_ADDRESS, None)
    return await SQL.lost_near.one(raw, *key, message_id, brake.window, _READ, codes, reasons, channel)


def _count(row: asyncpg.Record) -> tuple[datetime, int]:
    """What is the same at two looks between which nothing came back."""
    return row["hour"], row["bounced"]
