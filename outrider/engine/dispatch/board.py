"""The switchboard: what is paused, in memory, fed by notifications at once and by a poll; plus the emergency file.

Owns answering "may this lane send now?" without waiting; never writes.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import structlog

from outrider.base.ids import NIL
from outrider.contracts.gate import Lane
from outrider.data.db import Database
from outrider.domain.limits.rows import SQL

_log = structlog.get_logger(__name__)


class Board:
    """What is stopped now. `version` grows with every change, so that a verdict can be kept until then."""

    def __init__(self, database: Database, emergency_path: Path) -> None:
        self._database = database
        self._emergency_path = emergency_path
        self._epoch = -1
        self._stops: dict[tuple[UUID, str, str], str] = {}
        self._maintenance: str | None = None
        self.is_emergency = False
        self.is_known = False
        self.version = 0

    async def refresh(self) -> None:
        """Read the switches if their epoch has changed. Until the first time nothing may be sent."""
        async with self._database.statements() as raw:
            row = await SQL.epoch_read.one(raw)
            if row is None or row["switch_epoch"] == self._epoch:
                return
            stops = {
                (switch["tenant_id"], switch["scope"], switch["scope_id"]): switch["reason"]
                for switch in await SQL.switches_all.many(raw)
            }
        self._stops = stops
        self._epoch = row["switch_epoch"]
        self._maintenance = (row["maintenance_reason"] or "not given") if row["maintenance_since"] else None
        self.is_known = True
        self.version += 1
        _log.info("switches_read", epoch=self._epoch, paused=len(stops), maintenance=bool(self._maintenance))

    def look_at_file(self) -> None:
        """See whether the emergency file is there; needs no database."""
        try:
            is_there = self._emergency_path.exists()
        except OSError:  # its folder may not be entered any more: what cannot be seen may be there
            is_there = True
        if is_there != self.is_emergency:
            self.is_emergency = is_there
            self.version += 1
            _log.warning("emergency_file", is_there=is_there, path=str(self._emergency_path))

    def why_stopped(self, lane: Lane) -> str | None:
        """Why this lane may not send now, or None."""
        if self.is_emergency:
            return "paused: emergency file"
        if not self.is_known:
            return "switches not read yet"
        if self._maintenance is not None:
            return f"maintenance: {self._maintenance}"
        tenant = lane.tenant_id
        keys = (
            (NIL, "installation", str(NIL)),
            (NIL, "channel", lane.channel),
            (tenant, "tenant", str(tenant)),
            (tenant, "channel", lane.channel),
            (tenant, "sender", str(lane.sender_id)),
            (tenant, "campaign", str(lane.campaign_id)),
        )
        for key in keys:
            if key in self._stops:
                return f"paused: {key[1]}: {self._stops[key]}"
        return None
