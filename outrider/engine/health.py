"""A process's own health endpoint [S1-25]: /health, /livez, /readyz and /metrics on a small HTTP/1.1 server.

Owns one listening socket; answers GET and HEAD only, closes every connection after its answer.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, generate_latest

from outrider.base.errors import Misconfigured

_PORTS_TRIED = 100
_LONGEST_REQUEST = 8192
_READ_S = 5.0
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
Report = Callable[[], dict[str, Any]]


class HealthServer:
    """Serves what `report` says; `is_ok` in the report decides between 200 and 503."""

    def __init__(self, report: Report, registry: CollectorRegistry) -> None:
        self._report = report
        self._registry = registry
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> str:
        """Listen on the first free port from `port` (0: any).

        Gives:   the base URL.
        Raises:  Misconfigured(health_port) when none of the next hundred is free or the address is not ours.
        """
        for candidate in range(port, port + (_PORTS_TRIED if port else 1)):
            try:
                self._server = await asyncio.start_server(self._serve, host, candidate)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise Misconfigured(
                        "health_port", f"cannot listen on {host}:{candidate}: {error.strerror}"
                    ) from error
                continue
            bound = self._server.sockets[0].getsockname()[1]
            return f"http://{host}:{bound}"
        raise Misconfigured("health_port", f"no free port from {port} on for the health endpoint")

    async def stop(self) -> None:
        """Close the socket."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _READ_S)
            status, kind, body = self._answer(head[:_LONGEST_REQUEST])
            is_head = head.startswith(b"HEAD ")
            writer.write(
                f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
                "cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n".encode()
            )
            writer.write(b"" if is_head else body)
            await asyncio.wait_for(writer.drain(), _READ_S)
        writer.close()

    def _answer(self, head: bytes) -> tuple[int, str, bytes]:
        parts = head.split(b"\r\n", 1)[0].split(b" ")
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):  # noqa: PLR2004 - method, target, version
            return 400, "text/plain", b"bad request\n"
        if parts[0] not in (b"GET", b"HEAD"):
            return 405, "text/plain", b"GET only\n"
        path = parts[1].split(b"?", 1)[0]
        if path == b"/livez":
            return 200, "application/json", b'{"status":"alive"}'
        if path == b"/metrics":
            return 200, "text/plain; version=0.0.4; charset=utf-8", generate_latest(self._registry)
        if path in (b"/health", b"/readyz"):
            report = self._report()
            return 200 if report["is_ok"] else 503, "application/json", orjson.dumps(report)
        return 404, "text/plain", b"/health /livez /readyz /metrics\n"
