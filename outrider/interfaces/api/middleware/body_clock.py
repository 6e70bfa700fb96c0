"""The body's limits: how large, how slow. A sender that stalls is answered 408 and cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import cast

from litestar.types import HTTPReceiveMessage, HTTPRequestEvent, Receive

from outrider.base.errors import Refused
from outrider.interfaces.api.exchange import Exchange

STALL_S = 10.0
"""How long a sender may say nothing."""

START_S = 20.0
"""What every body gets, however small …"""

LEAST_BYTES_PER_S = 8 * 1024
"""… and one second more for each second's worth received: a slow line may upload, a trickle is cut off."""


class BodyClock:
    """`receive` of one request, counted and timed."""

    def __init__(
        self, receive: Receive, exchange: Exchange, headers: Iterable[tuple[bytes, bytes]], *, most_bytes: int
    ) -> None:
        self._receive = receive
        self._exchange = exchange
        self._most_bytes = most_bytes
        self._byte_count = 0
        self._announced = 0
        for name, value in headers:
            if name == b"content-length" and value.isdigit():
                self._announced = int(value)
            elif name == b"transfer-encoding":
                self._exchange.has_unread_body = True
        self._exchange.has_unread_body |= self._announced > 0
        self._ends_s = asyncio.get_running_loop().time() + START_S

    def refuse_announced(self) -> None:
        """Refuse a body by its announced length, before a byte of it is read. Raises Refused(too_large, 413)."""
        if self._announced > self._most_bytes:
            raise self._too_large()

    async def receive(self) -> HTTPReceiveMessage:
        """The next part. Raises Refused(too_large, 413), Refused(body_timeout, 408), Refused(body_incomplete, 400)."""
        if not self._exchange.has_unread_body:
            return cast("HTTPReceiveMessage", await self._receive())
        now_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(min(self._ends_s, now_s + STALL_S)):
                message = cast("HTTPReceiveMessage", await self._receive())
        except TimeoutError:
            raise Refused("body_timeout", "the body came too slowly", status=408) from None
        if message["type"] == "http.disconnect":
            raise Refused("body_incomplete", "the connection ended before the body", status=400)
        self._count(message)
        return message

    def _count(self, message: HTTPRequestEvent) -> None:
        size = len(message["body"])
        self._byte_count += size
        self._ends_s += size / LEAST_BYTES_PER_S
        self._exchange.has_unread_body = message["more_body"]
        if self._byte_count > self._most_bytes:
            raise self._too_large()

    def _too_large(self) -> Refused:
        return Refused("too_large", f"a body may have at most {self._most_bytes} bytes", status=413)
