"""Processes that listen for SMTP: what their commands share. Owns no protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from outrider.app import wiring
from outrider.app.processes import run_process
from outrider.app.signals import Stop, ready
from outrider.data.runtime import Runtime


class Serve(Protocol):
    """A listener: listens until `stop` is set, and tells once where."""

    def __call__(self, runtime: Runtime, *, ready: Callable[[str], None], stop: asyncio.Event) -> Awaitable[None]:
        """Serve."""
        ...


def run_listener(role: str, serve: Serve, *, lifeline: bool) -> int:
    """Run a listener as a process of its own; gives its exit status."""

    async def work(stop: Stop) -> None:
        async with wiring.runtime(role, is_warm=False) as runtime:
            await serve(runtime, ready=ready, stop=stop.event)

    return run_process(role, work, grace_s=wiring.settings().grace_s, lifeline=lifeline)
