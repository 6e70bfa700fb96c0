"""Listening for SMTP: how many may talk at once, and an end at which nothing accepted is unanswered.

Owns the socket and who is talking; what is said is the caller's.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from outrider.base.errors import Misconfigured
from outrider.interfaces.smtp.wire import Gone, Wire

_log = structlog.get_logger(__name__)
MOST_CONNECTIONS: Final = 200
MOST_PER_SOURCE: Final = 50
_STOP_WITHIN_S: Final = 10.0
_TURNED_AWAY: Final = b"421 4.3.2 Too many connections, try again later\r\n"
Talk = Callable[[Wire], Coroutine[None, None, None]]


async def listen(
    name: str, where: tuple[str, int], talk: Talk, *, ready: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Listen until `stop` is set; then let messages under way be answered.

    Takes:   name: of the listener and its settings `OUTRIDER_<NAME>_HOST` and `_PORT`; where: host and port;
             ready: called once with the address, for example `smtp://127.0.0.1:2587`.
    Raises:  Misconfigured(cannot_listen).
    """
    started: asyncio.Queue[Wire] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(lambda: Wire(started), *where, backlog=256)
    except OSError as error:
        variable = f"OUTRIDER_{name.upper()}"
        raise Misconfigured(
            "cannot_listen",
            f"cannot listen on {where[0]}:{where[1]} ({error.strerror}); set {variable}_HOST or {variable}_PORT",
        ) from None
    house = _House(talk, name)
    welcoming = asyncio.create_task(house.welcome(started), name=name)
    ready(_url(server.sockets[0]))
    try:
        await stop.wait()
    finally:
        server.close()
        welcoming.cancel()
        await asyncio.gather(welcoming, return_exceptions=True)
        await house.empty()


class _House:
    """Who is talking now. `talk` holds one conversation to its end."""

    def __init__(self, talk: Talk, name: str) -> None:
        self._talk = talk
        self._name = name
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
            task = asyncio.create_task(self._talk(wire))
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
            _log.error("conversation_broken", listener=self._name, exc_info=error)


def certificate(pem: Path | None, *, variable: str, code: str) -> ssl.SSLContext | None:
    """The context of STARTTLS; None without a certificate.

    Raises:  Misconfigured under `code`, naming the variable.
    """
    if pem is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(pem)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(code, f"{variable}: {pem} cannot be used: {error.strerror or error}") from None
    return context


def host_name() -> str:
    """How the server calls itself."""
    name = socket.gethostname()
    return name if re.fullmatch(r"[A-Za-z0-9.-]{1,60}", name) else "outrider"


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"smtp://[{host}]:{port}" if ":" in host else f"smtp://{host}:{port}"
