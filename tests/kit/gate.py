"""A gate between workers and the capture server: it keeps the server's answers back, as a cut or a stall would.

    async with Gate.open(await drill.smtp_port()) as gate:
        sender = await drill.sender("at_least_once", port=gate.port)
        gate.hold(VERDICTS)             from now on the answer to a dot, and what follows it, waits here
        gate.hold_no_more()             what waits goes on waiting, the rest passes
        gate.release()                  everything that waits goes on, and nothing is held any more
        gate.release(first=1)           only the first connection, which is held no more

What the client writes always passes: the server has the message, the client does not know. Connections are numbered in
the order in which they came.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

VERDICTS = rb"queued as|554 "
"""The capture server's answers to a final dot."""
_READ_BYTES = 1 << 16


@dataclass(slots=True)
class _Line:
    """One connection: what waits for its client."""

    client: asyncio.StreamWriter
    waiting: bytearray = field(default_factory=bytearray)
    is_held: bool = False
    is_free: bool = False
    passed_count: int = 0


class Gate:
    """Listens on a port of its own; everything passes until told otherwise."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._held: re.Pattern[bytes] | None = None
        self._skip = 0
        self._lines: list[_Line] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, upstream_port: int) -> AsyncIterator[Gate]:
        """Listen until the block ends."""
        gate = cls(upstream_port)
        server = await asyncio.start_server(gate._serve, "127.0.0.1", 0)
        gate.port = server.sockets[0].getsockname()[1]
        try:
            yield gate
        finally:
            server.close()
            for task in tuple(gate._tasks):
                task.cancel()
            await asyncio.gather(*gate._tasks, return_exceptions=True)

    def hold(self, answers: bytes = VERDICTS, *, skip: int = 0) -> None:
        """Keep back each answer that matches, and all that follows it on its connection; the first `skip` pass."""
        self._held = re.compile(answers)
        self._skip = skip

    def hold_no_more(self) -> None:
        """Let every answer pass from now on, except on connections that are held already."""
        self._held = None

    @property
    def held_count(self) -> int:
        """Connections on which an answer waits."""
        return sum(line.is_held for line in self._lines)

    def release(self, *, first: int | None = None) -> None:
        """Let what waits go on: of all connections, which ends the holding, or of the first so many."""
        if first is None:
            self._held = None
        for line in self._lines[:first]:
            line.is_held, line.is_free = False, True
            if line.waiting and not line.client.is_closing():
                line.client.write(bytes(line.waiting))
            line.waiting.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        line = _Line(writer)
        self._lines.append(line)
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        try:
            with suppress(OSError):
                async with asyncio.TaskGroup() as both:
                    up = both.create_task(_copy(reader, server_writer))
                    both.create_task(self._answers(server_reader, line, up))
        finally:
            line.is_held = False
            server_writer.close()
            writer.close()
            self._tasks.discard(task)

    async def _answers(self, reader: asyncio.StreamReader, line: _Line, up: asyncio.Task[None]) -> None:
        """The server's words, held where they match; the end of the server ends the connection."""
        while data := await reader.read(_READ_BYTES):
            if not line.is_free and self._held is not None and self._held.search(data):
                line.is_held = line.is_held or line.passed_count >= self._skip
                line.passed_count += 1
            if line.is_held:
                line.waiting += data
            else:
                line.client.write(data)
                await line.client.drain()
        up.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_READ_BYTES):
        writer.write(data)
        await writer.drain()
    writer.close()
