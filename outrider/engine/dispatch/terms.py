"""The gates as the settings of a lane's tenant and campaign make them.

Owns reading the settings, one short statement per claim so that a change holds from the next claim on, and remembering
what gates made of them; never judges.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from outrider.contracts.gate import Gate, Lane
from outrider.domain.limits.rows import SQL

_MOST = 2048
"""Different settings remembered; tenants that set nothing share one."""


class Terms:
    """For one worker."""

    def __init__(self, gates: Sequence[Gate]) -> None:
        self._gates = gates
        self._known: dict[str | None, tuple[Gate, ...]] = {}

    async def gates(self, raw: asyncpg.Connection, lane: Lane) -> tuple[Gate, ...]:
        """The gates of a lane, in their order."""
        text: str | None = await SQL.gate_settings.value(raw, lane.tenant_id, lane.campaign_id)
        made = self._known.get(text)
        if made is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            made = self._known[text] = tuple(configured(self._gates, json.loads(text) if text else {}))
        return made


def configured(gates: Sequence[Gate], settings: Mapping[str, Any]) -> list[Gate]:
    """Gates with settings: what is given, else the presets."""
    return [
        gate.configured({field.name: settings.get(field.name, field.default) for field in gate.fields})
        if gate.fields
        else gate
        for gate in gates
    ]
