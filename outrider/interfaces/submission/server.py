"""The listener: how many may talk at once, its certificate, and an end at which nothing accepted is unanswered."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from outrider.base.errors import Misconfigured
from outrider.data.runtime import Runtime
from outrider.interfaces.submission.room import Rules
from outrider.interfaces.submission.session import Session
from outrider.interfaces.submission.wire import Gone, Wire

_log = structlog.get_logger(__name__)
MOST_CONNECTIONS: Final = 200
MOST_PER_SOURCE: Final = 50
_STOP_WITHIN_S: Final = 10.0
_TURNED_AWAY: Final = b"421 4.3.2 Too many connections, try again later\r\n"


async def serve(runtime: Runtime, *, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Listen until `stop` is set; then let messages under way be answered.

    Takes:   ready: called once with the address, for example `smtp://127.0.0.1:2587`.
    Raises:  Misconfigured(cannot_listen, submission_certificate).
    """
    settings = runtime.settings
    tls = _tls(settings.submission_certificate)
    rules = Rules(_host_name(), settings.submission_max_bytes, tls)
    started: asyncio.Queue[Wire] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(
            lambda: Wire(started), settings.submission_host, settings.submission_port or 0, backlog=256
        )
    except OSError as error:
        raise Misconfigured(
            "cannot_listen",
            f"cannot listen on {settings.submission_host}:{settings.submission_port} ({error.strerror}); set "
            "OUTRIDER_SUBMISSION_HOST or OUTRIDER_SUBMISSION_PORT",
        ) from None
    house = _House(runtime, rules, stop)
    welcoming = asyncio.create_task(house.welcome(started), name="submission")
    ready(_url(server.sockets[0]))
    try:
        await stop.wait()
    finally:
        server.close()
        welcoming.cancel()
        await asyncio.gather(welcoming, return_exceptions=True)
        await house.empty()
        await runtime.bell.quiet()


class _House:
    """Who is talking now."""

    def __init__(self, runtime: Runtime, rules: Rules, stop: asyncio.Event) -> None:
        self._runtime = runtime
        self._rules = rules
        self._stop = stop
        self._talks: dict[asyncio.Task[None], Wire] = {}
        self._by_source: Counter[str] = Counter()

    async def welcome(self, started: asyncio.Queue[Wire]) -> None:
        """Give each new connection its session, or turn it away."""
        while True:
            wire = await started.get()
            if len(self._talks) >= MOST_CONNECTIONS or self._by_source[wire.peer] >= MOST_PER_SOURCE:
                with suppress(Gone):
                    await wire.say(_TURNED_AWAY)
                wire.close()
                continue
            self._by_source[wire.peer] += 1
            task = asyncio.create_task(Session(wire, self._runtime, self._rules, self._stop).run())
            self._talks[task] = wire
            task.add_done_callback(self._left)

    async def empty(self) -> None:
        """Wait for what is being accepted, then close what only waits."""
        talks = dict(self._talks)
        for wire in talks.values():
            wire.hang_up()
        if talks:
            await asyncio.wait(talks, timeout=_STOP_WITHIN_S)
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    def _left(self, task: asyncio.Task[None]) -> None:
        wire = self._talks.pop(task)
        self._by_source[wire.peer] -= 1
        if not self._by_source[wire.peer]:
            del self._by_source[wire.peer]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("submission_broken", exc_info=error)


def _tls(pem: Path | None) -> ssl.SSLContext | None:
    """The context of STARTTLS; None without a certificate: then only loopback may sign in."""
    if pem is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(pem)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            "submission_certificate",
            f"OUTRIDER_SUBMISSION_CERTIFICATE: {pem} cannot be used: {error.strerror or error}",
        ) from None
    return context


def _host_name() -> str:
    """How the server calls itself."""
    name = socket.gethostname()
    return name if re.fullmatch(r"[A-Za-z0-9.-]{1,60}", name) else "outrider"


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"smtp://[{host}]:{port}" if ":" in host else f"smtp://{host}:{port}"
