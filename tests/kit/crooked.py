"""A line to an HTTP server that bends what goes over it: requests that never arrive, answers that are something else.

API
    Crooked.open(url) -> async context manager of Crooked      to a server on loopback
    Crooked.url                        where to ask instead of the server
    Crooked.bend                       Asked -> Bent: what happens to each request; replace it at any time
    Crooked.asked                      every request, in the order in which they came, on CLOCK_BOOTTIME
    Crooked.lag_s                      the longest that this process has kept anything waiting in the last seconds
    Crooked.sign_in                    (account, password) the server is told, whoever asks; None: what was said
    Crooked.cut() / .mend()            nobody is there any more, and who talks is cut off / there again
    Crooked.swallow() / .mend()        what is sent vanishes, connections too, and nobody says so / it arrives, late
    STRAIGHT                           nothing is bent
"""

from __future__ import annotations

import asyncio
import base64
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import aiohttp

from tests.kit.drill import boot_ns


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `number` counts them from 1; `to` and `password` are what a request for a text names.

    lag_s   the longest that this process has kept a request waiting in the seconds until then: the time of one of them
            may be so much too late
    """

    number: int
    boot_ns: int
    to: str
    password: str
    lag_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Bent:
    """What becomes of a request.

    reaches     whether the server gets it
    status      what is answered instead of the server's own answer; 0: that, and nothing else of this is looked at
    body        of such an answer, with its type and further headers
    after_s     how long the answer takes; byte_s: the pause after each of its bytes
    cut_at      hang up after so many bytes of the body; None: it ends as it should
    """

    reaches: bool = True
    status: int = 0
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    byte_s: float = 0.0
    cut_at: int | None = None


STRAIGHT = Bent()
_FILLING_S = 0.3
_TICK_S = 0.01
_LOOKS_BACK_S = 5.0
"""Longer than any pause that is judged: what kept this process before excuses nothing."""


@dataclass
class Crooked:
    """A relay of requests."""

    target: str
    bend: Callable[[Asked], Bent] = lambda _asked: STRAIGHT
    asked: list[Asked] = field(default_factory=list)
    lags: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=int(_LOOKS_BACK_S / _TICK_S)))
    url: str = ""
    sign_in: tuple[str, str] | None = None
    _server: asyncio.Server | None = None
    _talks: set[asyncio.Task[None]] = field(default_factory=set)
    _http: aiohttp.ClientSession | None = None
    _passes: asyncio.Event = field(default_factory=asyncio.Event)
    _stuffed: list[socket.socket] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def open(cls, target: str) -> AsyncIterator[Crooked]:
        """A line to a server; cut at the end."""
        async with aiohttp.ClientSession(auto_decompress=False) as http:
            line = cls(target, _http=http)
            await line.mend()
            watching = asyncio.create_task(line._watch())
            try:
                yield line
            finally:
                watching.cancel()
                await line.cut()

    async def _watch(self) -> None:
        """Note how late this process is: it has other things to do, and others have the machine."""
        while True:
            began_ns = boot_ns()
            await asyncio.sleep(_TICK_S)
            ended_ns = boot_ns()
            self.lags.append((ended_ns, (ended_ns - began_ns) / 1e9 - _TICK_S))

    @property
    def lag_s(self) -> float:
        """See above."""
        since_ns = boot_ns() - int(_LOOKS_BACK_S * 1e9)
        return max((late_s for ended_ns, late_s in self.lags if ended_ns >= since_ns), default=0.0)

    async def mend(self) -> None:
        """Listen, at the address of before; what was swallowed goes on its way, whoever still waits for its answer."""
        port = urlsplit(self.url).port or 0
        self._unstuff()
        self._passes.set()
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def cut(self) -> None:
        """Listen no more and cut whoever talks, without a word."""
        self._unstuff()
        if self._server is not None:
            self._server.close()
            self._server = None
        talks = list(self._talks)
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    async def swallow(self) -> None:
        """Answer nothing any more, connections neither: as a network that drops every packet.

        Connections that are open stay so. New ones meet a queue of connections that is full and that nobody empties, so
        that the kernel drops what would open one more.
        """
        assert self._server is not None
        address = self._server.sockets[0].getsockname()
        self._passes.clear()
        self._server.close()
        self._server = None
        listener = socket.socket()
        self._stuffed.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(0)
        loop = asyncio.get_running_loop()
        dropped = 0
        while dropped < 2:  # once may be a connection that this process, kept from its work, looked at too late
            one_more = socket.socket()
            self._stuffed.append(one_more)
            one_more.settimeout(0)
            try:
                await asyncio.wait_for(loop.sock_connect(one_more, address), _FILLING_S)
                dropped = 0
            except TimeoutError:
                dropped += 1

    def _unstuff(self) -> None:
        """Close what fills the queue of connections, and the queue."""
        for each in self._stuffed:
            each.close()
        self._stuffed.clear()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.CancelledError, asyncio.IncompleteReadError, OSError, aiohttp.ClientError):
            writer.transport.abort()
        finally:
            self._talks.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; tells whether the line holds."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {name.strip().lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        await self._passes.wait()
        method, path, _ = first.split(" ")
        asked = self._note(headers, body)
        bent = self.bend(asked)
        status, kind, said = bent.status, bent.content_type, bent.body
        if bent.reaches:
            kept = {name: text for name, text in headers.items() if name in {"authorization", "content-type"}}
            if self.sign_in is not None:
                kept["authorization"] = "Basic " + base64.b64encode(":".join(self.sign_in).encode()).decode()
            assert self._http is not None
            async with self._http.request(method, self.target + path, data=body, headers=kept) as answer:
                found = (answer.status, answer.headers.get("Content-Type", ""), await answer.read())
            if not status:
                status, kind, said = found
        if bent.after_s:
            await asyncio.sleep(bent.after_s)
        await self._passes.wait()
        more = "".join(f"{name}: {text}\r\n" for name, text in bent.headers.items())
        head = f"HTTP/1.1 {status} Bent\r\nContent-Type: {kind}\r\nContent-Length: {len(said)}\r\n{more}\r\n"
        writer.write(head.encode("latin-1"))
        await self._say(writer, said if bent.cut_at is None else said[: bent.cut_at], bent.byte_s)
        return bent.cut_at is None

    @staticmethod
    async def _say(writer: asyncio.StreamWriter, said: bytes, byte_s: float) -> None:
        if not byte_s:
            writer.write(said)
        else:
            for at in range(len(said)):
                await writer.drain()
                await asyncio.sleep(byte_s)
                writer.write(said[at : at + 1])
        await writer.drain()

    def _note(self, headers: Mapping[str, str], body: bytes) -> Asked:
        form = parse_qs(body.decode())
        signed_in = base64.b64decode(headers.get("authorization", "").removeprefix("Basic ")).decode()
        to, password = form.get("To", [""])[0], signed_in.partition(":")[2]
        asked = Asked(len(self.asked) + 1, boot_ns(), to, password, self.lag_s)
        self.asked.append(asked)
        return asked
