"""A line to a server that can be cut and mended: a relay of bytes on loopback, in the test's own process.

API
    Relay.open(port) -> async context manager of Relay      to a server on 127.0.0.1
    Relay.port                                               stays the same over cuts
    Relay.cut() / .mend()                                    nobody is there, and whoever talks is cut off; there again
    Relay.passed_bytes                                       what went through towards the server
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_AT_ONCE_BYTES = 2048
_PAUSE_S = 0.002
"""Slow enough that a test can cut it while something is under way."""


@dataclass
class Relay:
    """Bytes both ways between whoever connects and the server."""

    target: int
    port: int = 0
    passed_bytes: int = 0
    _server: asyncio.Server | None = None
    _talks: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    @asynccontextmanager
    async def open(cls, target: int) -> AsyncIterator[Relay]:
        """A relay to a port of this machine; cut at the end."""
        relay = cls(target)
        await relay.mend()
        try:
            yield relay
        finally:
            await relay.cut()

    async def mend(self) -> None:
        """Listen, on the port of before."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Listen no more and cut whoever talks, without a word."""
        if self._server is not None:
            self._server.close()
            self._server = None
        talks = list(self._talks)
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)
        far_writer: asyncio.StreamWriter | None = None
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pipe(reader, far_writer, is_counted=True))
                both.create_task(self._pipe(far_reader, writer, is_counted=False))
        except (asyncio.CancelledError, OSError, ExceptionGroup):
            for each in (writer, far_writer):
                if each is not None:
                    each.transport.abort()
        finally:
            for each in (writer, far_writer):
                if each is not None:
                    each.close()
                    with suppress(OSError):
                        await each.wait_closed()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_counted: bool) -> None:
        while data := await reader.read(_AT_ONCE_BYTES):
            if is_counted:
                self.passed_bytes += len(data)
                await asyncio.sleep(_PAUSE_S)
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
