"""One LISTEN connection per process: reconnects by itself and says when it may have missed something."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import asyncpg
import structlog

from outrider.base.errors import OutriderError
from outrider.data.faults import TRANSIENT, database_faults

_log = structlog.get_logger(__name__)
_PROBE_S = 5.0
_PASSING: tuple[type[BaseException], ...] = (OutriderError, *TRANSIENT)


async def listen(
    connect: Callable[[], Awaitable[asyncpg.Connection]],
    handlers: Mapping[str, Callable[[str], None]],
    missed: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Deliver notifications until `stop`.

    Takes:   handlers  channel -> called with the payload, from the event loop; must not block
             missed    called after every (re)connection: what came in between is lost, so look for yourself
    """
    pause_s = 0.1
    while not stop.is_set():
        connection: asyncpg.Connection | None = None
        try:
            with database_faults():
                connection = await connect()
                for channel, handler in handlers.items():
                    await connection.add_listener(channel, lambda _c, _p, _n, payload, call=handler: call(payload))
            missed()
            pause_s = 0.1
            while not stop.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _PROBE_S)
                if not stop.is_set():
                    await connection.execute("SHOW server_version")  # not "": the driver fails on it
        except _PASSING as error:
            _log.warning("listen_lost", error=type(error).__name__)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause_s = min(pause_s * 2, 2.0)
        finally:
            if connection is not None and not connection.is_closed():
                connection.terminate()
