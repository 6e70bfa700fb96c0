"""A small HTTP/1.1 client for load: kept connections, bodies encoded beforehand, latencies of every call.

Owns nothing of what is called; small on purpose, because it shares the machine with what is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(slots=True)
class Load:
    """What a load run saw. `latencies_s` of each call, in the order of their ends; of paced ones from their time on."""

    took_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)


class Connection:
    """One kept connection to one server."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, request: bytes) -> tuple[int, bytes]:
        """Send one encoded request; gives status and body."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        length = next(
            int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:"
        )
        return status, await self._reader.readexactly(length)

    def close(self) -> None:
        """Close it."""
        if self._writer is not None:
            self._writer.close()


def request(path: str, body: bytes, headers: dict[str, str], *, kind: str = "application/json") -> bytes:
    """A POST with a body, encoded."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def load(
    urls: Sequence[str],
    requests: Iterator[bytes],
    *,
    connections: int,
    expected: int = 202,
    per_s: float | None = None,
) -> Load:
    """Send every request once over so many connections, spread over the servers.

    Takes:   per_s: begin so many a second and no more; a call that had to wait for its connection counts from its time.
    Raises:  RuntimeError for the first answer that is not the expected one.
    """
    result = Load()
    numbered = iter(enumerate(requests))

    async def one(url: str) -> None:
        connection = Connection(url)
        try:
            for number, encoded in numbered:
                call_s = time.perf_counter()
                if per_s is not None:
                    call_s = began_s + number / per_s
                    await asyncio.sleep(max(0.0, call_s - time.perf_counter()))
                status, body = await connection.call(encoded)
                result.latencies_s.append(time.perf_counter() - call_s)
                if status != expected:
                    raise RuntimeError(f"{status}: {body[:300]!r}")
        finally:
            connection.close()

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(one(urls[number % len(urls)]))
    result.took_s = time.perf_counter() - began_s
    return result
