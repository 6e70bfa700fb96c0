"""A provider that goes on answering without an end is not waited for longer than for one that is silent.

Source:  F58: the total deadline is kept
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network

import pytest

from outrider.data.egress import Egress
from outrider.data.http_out import HttpOut, Trouble

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
_BOUND_S = 60


@asynccontextmanager
async def _byte_by_byte() -> AsyncIterator[str]:
    """A server that takes a request at once and never gets to the end of its answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_HEAD)
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_an_answer_that_comes_byte_by_byte_is_given_up_in_the_time_an_answer_has(method: str) -> None:
    async with _byte_by_byte() as base:
        http = HttpOut(
            base, Egress((ip_network("127.0.0.0/8"),)), headers={}, connect_timeout_s=600, answer_timeout_s=0.5
        )
        try:
            async with asyncio.timeout(_BOUND_S):
                found = await http.ask(method, "/", body=b"to=me" if method == "POST" else None)
        finally:
            await http.close()
    assert isinstance(found, Trouble)
    assert (found.kind, found.cause) == ("lost", "answer_lost")
