"""The loop that looks whether campaigns lose too many of their recipients; how many are is domain/campaigns/brakes."""

from __future__ import annotations

from outrider.data.runtime import Runtime
from outrider.domain.campaigns.brakes import Watch
from outrider.engine.loop import Loop

_EVERY_S = 1.0


def loops(runtime: Runtime) -> list[Loop]:
    """What a worker process runs beside its dispatch."""
    watch = Watch(runtime.db)

    async def step() -> bool:
        await watch.step()
        return watch.is_behind

    return [Loop("campaign_brakes", _EVERY_S, step)]
