"""Second thoughts: gates that can change their mind are asked again about what waits for its write.

Owns when a batch is asked about; what is withdrawn is in the batch, and looked at before each write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from uuid import UUID

import structlog

from outrider.base.clock import boottime_s
from outrider.base.errors import Unavailable
from outrider.base.ids import NIL
from outrider.contracts.gate import Gate
from outrider.data.db import Database
from outrider.engine.dispatch.batch import ASK_AGAIN_S, Batch
from outrider.engine.dispatch.claim import Claimer

_log = structlog.get_logger(__name__)
_HEED_EVERY_S = 0.05
"""A batch is not asked about more often, however many people say stop."""


class SecondThoughts:
    """For one worker. `bell` rings when somebody has said stop."""

    def __init__(
        self, database: Database, claimer: Claimer, gates: Sequence[Gate], batches: Mapping[int, Batch]
    ) -> None:
        self._database = database
        self._claimer = claimer
        self._gates = [gate for gate in gates if gate.is_asked_again and gate.facts]
        self._batches = batches
        self._heard: dict[UUID, float] = {}
        self.bell = asyncio.Event()

    def heed(self, owner: str) -> None:
        """A do-not-contact list has grown, of a tenant or (NIL) of all: ask about its open batches at once."""
        self._heard[UUID(owner)] = boottime_s()
        self.bell.set()

    async def ask(self) -> bool:
        """Ask about everything that waits for its write for a while."""
        now_s = boottime_s()
        self._heard = {owner: at_s for owner, at_s in self._heard.items() if now_s - at_s < ASK_AGAIN_S}
        for batch in list(self._batches.values()):
            if not batch.unsettled or not self._is_old(batch, now_s):
                continue
            asked_s = boottime_s()
            try:
                async with self._database.statements() as raw:
                    batch.withdrawn |= await self._claimer.withdrawn(raw, batch, self._gates)
            except Unavailable:
                raise
            except Exception:  # noqa: BLE001 - a gate's bug stops this batch, which is not asked about; never the others
                _log.exception("second_thoughts_failed", lane=batch.lane.id)
                continue
            batch.asked_s = asked_s
        return False

    def _is_old(self, batch: Batch, now_s: float) -> bool:
        """Whether gates are to be asked about a batch again: it is time, or somebody has said stop since."""
        age_s = now_s - batch.asked_s
        heard_s = max(self._heard.get(batch.lane.tenant_id, 0.0), self._heard.get(NIL, 0.0))
        return age_s >= ASK_AGAIN_S or (heard_s > batch.asked_s and age_s >= _HEED_EVERY_S)
