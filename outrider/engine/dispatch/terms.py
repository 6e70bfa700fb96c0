"""What a lane goes by: the gates as the settings of its tenant and campaign make them, and whether money is counted.

Owns reading it, one short statement per claim so that a change holds from the next claim on, and remembering what gates
made of settings; never judges.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from outrider.contracts.channel import Tracking
from outrider.contracts.gate import Gate, Lane
from outrider.domain.limits.rows import SQL
from outrider.domain.tracking.choices import of_rows

_MOST = 2048
"""Different settings remembered; tenants that set nothing share one."""


@dataclass(frozen=True, slots=True)
class Terms:
    """For one claim. `is_counted`: messages may cost money; `is_limited`: there is a budget they must stay within.

    `paced`: what goes by a pace: the scopes that have a bucket, destinations, a warm-up; one set from now on holds for
    the next claim. `connection_id`: the sender's own connection. `payer_id`: the campaign whose account pays beside the
    tenant's; of a retry the one that it sends again. `is_switched`: something of the tenant or the installation is
    switched off, perhaps this lane. `tracking`: what may be noticed about its messages.
    """

    gates: tuple[Gate, ...]
    settings: Mapping[str, Any]
    zone: str = "UTC"
    is_counted: bool = False
    is_limited: bool = False
    paced: frozenset[str] = frozenset()
    connection_id: UUID | None = None
    payer_id: UUID | None = None
    is_switched: bool = True
    tracking: Tracking | None = None


class TermsReader:
    """For one worker."""

    def __init__(self, gates: Sequence[Gate]) -> None:
        self._gates = gates
        self._known: dict[str, tuple[tuple[Gate, ...], Mapping[str, Any]]] = {}

    async def read(self, raw: asyncpg.Connection, lane: Lane) -> Terms:
        """What a lane goes by now; its gates are in their order."""
        row = await SQL.lane_terms.one(raw, lane.tenant_id, lane.campaign_id, lane.channel, lane.sender_id)
        if row is None:
            return Terms(*self._made("{}"))
        gates, settings = self._made(row["settings"])
        paced = frozenset(row["paced"])
        return Terms(
            gates, settings, row["zone"], row["is_counted"], row["is_limited"], paced, row["connection_id"],
            row["payer_id"], row["is_switched"], of_rows(json.loads(row["noticed"] or "[]"), lane.message_class),
        )  # fmt: skip

    def _made(self, text: str) -> tuple[tuple[Gate, ...], Mapping[str, Any]]:
        made = self._known.get(text)
        if made is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            settings = json.loads(text)
            made = self._known[text] = (tuple(configured(self._gates, settings)), settings)
        return made


def configured(gates: Sequence[Gate], settings: Mapping[str, Any]) -> list[Gate]:
    """Gates with settings: what is given, else the presets."""
    return [
        gate.configured({field.name: settings.get(field.name, field.default) for field in gate.fields})
        if gate.fields
        else gate
        for gate in gates
    ]
