"""A family of processes under one parent: started in order, restarted with back-off, stopped in order, no orphan left.

Owns the children; knows nothing of what they do. Each child holds the other end of a pipe as its stdin (the lifeline):
when the parent is gone, however it went, the child sees the end of the pipe and stops in order by itself.
"""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from outrider.app.nursery import Forked, Nursery
from outrider.base.clock import boottime_s
from outrider.base.errors import Misconfigured, Unavailable
from outrider.interfaces.cli import exits

_READY: Final = b"ready: "
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 30.0
_SETTLED_S: Final = 60.0
_KILL_AFTER_S: Final = 15.0
_MOST_FALSE_STARTS: Final = 3
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Child:
    """One process of the family, restarted for as long as the family lives.

    role     which command it is
    grace_s  how long it may take to stop in order
    """

    name: str
    role: str
    grace_s: float
    nursery: Nursery
    where: str = ""
    """What its last `ready: …` line said."""
    restarts: int = 0
    process: Forked | None = None
    is_ready: asyncio.Event = field(default_factory=asyncio.Event)
    exit_code: int | None = None
    _task: asyncio.Task[None] | None = None
    _is_stopping: bool = False

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self.process.pid if self.process is not None and self.process.returncode is None else None

    def start(self, failed: asyncio.Future[Child]) -> None:
        """Start it and keep it running; `failed` gets it when restarting is pointless."""
        self._task = asyncio.create_task(self._keep(failed), name=f"child {self.name}")

    async def stop(self) -> None:
        """Ask it to stop, wait for its grace, then kill it; afterwards it is gone."""
        self._is_stopping = True
        process = self.process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(self.grace_s + _KILL_AFTER_S):
                    await process.wait()
            except TimeoutError:
                _log.error("child_killed", child=self.name, pid=process.pid)
                process.send_signal(signal.SIGKILL)
                await process.wait()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _keep(self, failed: asyncio.Future[Child]) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stops():
            began_s = boottime_s()
            try:
                self.exit_code = await self._run()
            except OSError as error:
                _log.error("child_not_started", child=self.name, error=error.strerror)
                self.exit_code = None
            self.is_ready.clear()
            if self._stops():
                return
            if self._is_hopeless():
                if not failed.done():
                    failed.set_result(self)
                return
            if boottime_s() - began_s > _SETTLED_S:
                pause_s = _FIRST_PAUSE_S
            how = {"exit_code": self.exit_code, **_signal(self.exit_code)}
            _log.warning("child_ended", child=self.name, **how, restart_in_s=round(pause_s, 1))
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311 - spreads restarts
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            self.restarts += 1

    def _is_hopeless(self) -> bool:
        """It refuses to start, or has died again and again without ever getting ready."""
        refuses = self.exit_code in {exits.REFUSES_TO_START, exits.USAGE, exits.NOT_ALLOWED}
        return refuses or (not self.where and self.restarts >= _MOST_FALSE_STARTS)

    def _stops(self) -> bool:
        return self._is_stopping

    async def _run(self) -> int:
        """One life of the process."""
        self.process = await self.nursery.start(self.role, self._heard)
        return await self.process.wait()

    def _heard(self, line: bytes) -> None:
        if line.startswith(_READY):
            self.where = line.removeprefix(_READY).decode(errors="replace").strip()
            self.is_ready.set()


class Family:
    """The children of one parent."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        self.failed: asyncio.Future[Child] = asyncio.get_running_loop().create_future()

    async def add(self, *children: Child, bound_s: float = 60.0) -> None:
        """Start children together and wait until each has said that it is ready.

        Raises:  Misconfigured when one refuses to start (it has said why on stderr); Unavailable after the bound.
        """
        for child in children:
            self.children.append(child)
            child.start(self.failed)
        ready = [asyncio.ensure_future(child.is_ready.wait()) for child in children]
        everybody = asyncio.gather(*ready)
        try:
            async with asyncio.timeout(bound_s):
                either: set[asyncio.Future[Any]] = {everybody, self.failed}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            late = ", ".join(child.name for child in children if not child.is_ready.is_set())
            raise Unavailable("child_not_ready", f"{late} did not get ready within {bound_s:g} s; see above") from None
        finally:
            if not everybody.done():
                everybody.cancel()
                with suppress(asyncio.CancelledError):
                    await everybody
        self.refuse_failed()

    @property
    def is_ready(self) -> bool:
        """Whether everybody is."""
        return all(child.is_ready.is_set() for child in self.children)

    def refuse_failed(self) -> None:
        """Raise when a child has ended for good."""
        if self.failed.done():
            child = self.failed.result()
            how = _signal(child.exit_code).get("signal", f"exit {child.exit_code}")
            raise Misconfigured("child_refused", f"{child.name} does not start ({how}), see above")

    async def stop(self) -> None:
        """Stop everybody: the doors first, so that nothing new comes in, then the workers together."""
        for child in [each for each in self.children if each.name == "api"]:
            await child.stop()
        await asyncio.gather(*(child.stop() for child in self.children if child.name != "api"))


def _signal(exit_code: int | None) -> dict[str, str]:
    """The signal that ended it, by name, if one did."""
    if exit_code is None or exit_code >= 0:
        return {}
    try:
        return {"signal": signal.Signals(-exit_code).name}
    except ValueError:  # a real-time one
        return {"signal": f"signal {-exit_code}"}
