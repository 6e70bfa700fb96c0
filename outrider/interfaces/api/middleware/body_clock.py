"""The body's limits: how large, how slow. A sender that stalls is answered 408 and cut off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any, cast

from litestar.types import HTTPReceiveMessage, HTTPRequestEvent, Receive

from outrider.base.errors import Refused
from outrider.interfaces.api.exchange import Exchange

STALL_S = 10.0
"""How long a sender may say nothing."""

START_S = 20.0
"""What every body gets, however small …"""

LEAST_BYTES_PER_S = 8 * 1024
"""… and one second more for each second's worth received: a slow line may upload, a trickle is cut off."""

_SKIMMED_BYTES = 16 * 1024
"""So much of a refused request's body is taken in, so that the connection can be kept."""


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
        self._is_expected = False
        for name, value in headers:
            if name == b"content-length" and value.isdigit():
                self._announced = int(value)
            elif name == b"transfer-encoding":
                self._exchange.has_unread_body = True
            elif name == b"expect":
                self._is_expected = True
        self._exchange.has_unread_body |= self._announced > 0
        self._ends_s = time.monotonic() + START_S

    def refuse_announced(self) -> None:
        """Refuse a body by its announced length, before a byte of it is read. Raises Refused(too_large, 413)."""
        if self._announced > self._most_bytes:
            raise self._too_large()

    async def receive(self) -> HTTPReceiveMessage:
        """The next part. Raises Refused(too_large, 413), Refused(body_timeout, 408), Refused(body_incomplete, 400)."""
        if not self._exchange.has_unread_body:
            return cast("HTTPReceiveMessage", await self._receive())
        coming = _Coming(self._receive)
        if not coming.is_there:  # a clock costs more than all the rest, and nearly every body comes with its head
            try:
                async with asyncio.timeout(min(self._ends_s - time.monotonic(), STALL_S)):
                    await coming
            except TimeoutError:
                raise Refused("body_timeout", "the body came too slowly", status=408) from None
        message = cast("HTTPReceiveMessage", coming.message)
        if message["type"] == "http.disconnect":
            raise Refused("body_incomplete", "the connection ended before the body", status=400)
        self._count(message)
        return message

    def skim(self) -> None:
        """Take in what has come already of a small body that nobody will read; never waits."""
        if self._is_expected or not 0 < self._announced <= min(_SKIMMED_BYTES, self._most_bytes):
            return
        while self._exchange.has_unread_body:
            coming = _Coming(self._receive)
            if not coming.is_there:
                coming.leave()
                return
            if coming.message["type"] == "http.disconnect":
                return
            self._count(coming.message)

    def _count(self, message: HTTPRequestEvent) -> None:
        size = len(message["body"])
        self._byte_count += size
        self._ends_s += size / LEAST_BYTES_PER_S
        self._exchange.has_unread_body = message["more_body"]
        if self._byte_count > self._most_bytes:
            raise self._too_large()

    def _too_large(self) -> Refused:
        return Refused("too_large", f"a body may have at most {self._most_bytes} bytes", status=413)


class _Coming:
    """A message of the server's: there at once, or to be awaited, or left."""

    def __init__(self, receive: Receive) -> None:
        self.message: Any = None
        self.is_there = False
        self._steps = cast("Generator[Any, Any, Any]", receive().__await__())
        self._waits_for: Any = None
        self._step(self._steps.send, None)

    def leave(self) -> None:
        """Wait for it no more."""
        self._steps.close()

    def __await__(self) -> Generator[Any, Any, None]:
        """What a task does with the steps of a coroutine, from the first on, which was made already."""
        while not self.is_there:
            try:
                answer = yield self._waits_for
            except BaseException as error:  # noqa: BLE001 - a task's way to cancel: the steps decide about it
                self._step(self._steps.throw, error)
            else:
                self._step(self._steps.send, answer)

    def _step(self, go: Callable[[Any], Any], given: Any) -> None:
        try:
            self._waits_for = go(given)
        except StopIteration as done:
            self.message, self.is_there = done.value, True
