"""A worker that recovers and does not send, until it is let: what is found after a kill is what recovery made of it.

API
    standby = await standing_by(drill)     a worker whose own emergency file is there: all its loops run
        await standby.recovered()                 wait until nothing of a dead worker's is leased any more
        await standby.finish()                    let it send until nothing is open, then hold it back again
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.kit.drill import LEASE_S, Drill
from tests.kit.processes import Process, until


@dataclass(slots=True)
class Standby:
    """The worker and the file that holds it back."""

    drill: Drill
    worker: Process
    file: Path

    async def recovered(self) -> None:
        """Wait until nothing is leased: long before a lease ends, so that only the dead worker's journal can tell."""

        async def nothing_leased() -> bool:
            return not await self.drill.open_count(1)

        await until(nothing_leased, what="what the dead worker held is given back", bound_s=LEASE_S / 2)

    async def finish(self) -> None:
        """Send what is left, then hold back again."""
        self.file.unlink()
        await self.drill.drained()
        await self._hold()

    async def _hold(self) -> None:
        self.file.touch()

        async def is_held() -> bool:
            return bool((await self.worker.health())["is_emergency"])

        await until(is_held, what="the standby has seen its emergency file")


async def standing_by(drill: Drill) -> Standby:
    """Start the worker; it ends with the drill."""
    file = drill.folder / "hold-back"
    file.touch()
    return Standby(drill, await drill.worker(emergency_file=str(file)), file)
