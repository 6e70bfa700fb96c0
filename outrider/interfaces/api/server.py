"""Running the application with uvicorn inside a process that owns its own signals and logs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

from litestar.types import ASGIApp
from uvicorn import Config, Server

from outrider.base.errors import Misconfigured
from outrider.base.settings import Settings
from outrider.interfaces.api.browsers import is_https
from outrider.interfaces.api.protocol import protocol_for

_BACKLOG = 2048
_KEEP_ALIVE_S = 30
_MOST_GRACE_S = 10


class _Server(Server):
    """uvicorn without its signal handlers: the process's own decide."""

    def __init__(self, config: Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, and say so."""
        await super().startup(sockets)
        self._started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


async def run(app: ASGIApp, settings: Settings, *, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set; then answer what is under way and close.

    Takes:   ready: called once with the base URL when connections are accepted.
    Raises:  Misconfigured(cannot_listen) when the address cannot be bound.
    """
    listener = bind(settings.api_host, settings.api_port)
    config = Config(
        app,
        http=protocol_for(is_https=is_https(settings)),
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(min(settings.grace_s, _MOST_GRACE_S)),
    )
    server = _Server(config, lambda: ready(_url(listener)))
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="api")
    stopping = asyncio.create_task(stop.wait(), name="api stop")
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        stopping.cancel()
        listener.close()


def bind(host: str, port: int) -> socket.socket:
    """A listening address. Raises Misconfigured(cannot_listen) naming it."""
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise Misconfigured(
            "cannot_listen",
            f"cannot listen on {host}:{port} ({error.strerror}); set OUTRIDER_API_HOST or OUTRIDER_API_PORT",
        ) from None
    listener.setblocking(False)  # noqa: FBT003 - a socket takes it by position only
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
