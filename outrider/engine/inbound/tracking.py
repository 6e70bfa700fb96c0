"""The loop that judges openings and clicks and adds them up.

Owns the rhythm; the rules are in domain/tracking. Several processes may run it: a tenant's are judged by one at a time.
"""

from __future__ import annotations

import structlog

from outrider.base.errors import Unavailable
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.tracking import judge
from outrider.domain.tracking.rows import SQL
from outrider.engine.loop import Asking, Loop, woken

_log = structlog.get_logger(__name__)
_EVERY_S = 1.0
_AT_ONCE = 2_000


def loops(runtime: Runtime) -> list[Loop]:
    """What a worker process runs beside its dispatch."""
    asking = Asking(SQL.hits_tenants, values=(runtime.settings.tracking_wait_s,), every_s=_EVERY_S)
    return [woken("judge_hits", _Judge(runtime).step, asking)]


class _Judge:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        settings = runtime.settings
        self._rules = judge.Rules(settings.tracking_soon_s, settings.tracking_burst_s)
        self._wait_s = settings.tracking_wait_s

    async def step(self) -> bool:
        """One bite of every tenant that has hits waiting. Tells whether there is more."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            waiting = [row["tenant_id"] for row in await SQL.hits_tenants.many(uow.raw, self._wait_s)]
        more = False
        for tenant_id in waiting:
            try:
                async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
                    taken = await judge.fold(uow, self._rules, wait_s=self._wait_s, limit=_AT_ONCE)
            except Unavailable:
                raise
            except Exception:  # noqa: BLE001 - one tenant whose hits cannot be judged must not stop everybody's
                _log.exception("hits_unjudged", tenant=str(tenant_id))
            else:
                more |= taken >= _AT_ONCE
        return more
