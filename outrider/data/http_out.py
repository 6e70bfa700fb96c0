"""Requests to one account's HTTP interface: through the guard of addresses, bounded in time and size, each told apart.

Owns the connections and the one question that matters for a message: could the request have been taken? Never reads
what an answer means; never repeats a request.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, AbstractStreamWriter, ResolveResult
from aiohttp.payload import Payload

from outrider.base.errors import Refused, Unavailable
from outrider.contracts.provider import Egress

_MOST_ANSWER_BYTES: Final = 4 << 20
_IDLE_S: Final = 20.0
"""A connection that rests longer may be closed by the other side while a request is written: it is not used again."""
_CHUNK: Final = 1 << 16
Leave = Callable[[], str | None]
"""Asked directly before the first byte: None, or why nothing may leave."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. Header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Trouble:
    """No answer. withheld: leave was not given; not_sent: nothing left; lost: it may have been taken.

    cause in the words of contracts/outcome.py.
    """

    kind: Literal["withheld", "not_sent", "lost"]
    cause: str
    detail: str


class HttpOut:
    """Connections to one base address; opened when asked for, kept for the next request, at most `connections`."""

    def __init__(
        self,
        base: str,
        egress: Egress,
        *,
        headers: Mapping[str, str],
        connections: int = 8,
        connect_timeout_s: float = 10.0,
        answer_timeout_s: float = 30.0,
    ) -> None:
        self._base = base.rstrip("/")
        parts = urlsplit(base)
        self._host, self._port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        self._egress = egress
        self._headers = {**headers, "Accept-Encoding": "identity"}
        self._connections = connections
        self._answer_timeout_s = answer_timeout_s
        self._timeout = aiohttp.ClientTimeout(
            total=connect_timeout_s + answer_timeout_s, connect=None, sock_connect=connect_timeout_s,
            sock_read=answer_timeout_s,
        )  # fmt: skip
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False
        self._is_allowed = False

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = "application/x-www-form-urlencoded",
        headers: Mapping[str, str] | None = None,
        leave: Leave | None = None,
    ) -> Reply | Trouble:
        """Make one request; on cancellation it is cut.

        Takes:   path with its query, already encoded. leave: asked once, with a connection at hand.
        """
        if self._is_closed:
            return Trouble("not_sent", "api_unreachable", "the connections are closed")
        refused = await self._forbidden()
        if refused is not None:
            return refused
        guarded = _Guarded(body or b"", content_type, leave)
        try:
            async with asyncio.timeout(None) as limit:
                guarded.on_begin = partial(self._begun, limit)
                return await self._asked(method, path, guarded, headers or {})
        except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError) as error:
            return _trouble(error, guarded)

    async def close(self) -> None:
        """Close every connection; idempotent."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    def _begun(self, limit: asyncio.Timeout) -> None:
        """From the first byte on the whole answer has so long, however slowly it comes [F58]."""
        limit.reschedule(asyncio.get_running_loop().time() + self._answer_timeout_s)

    async def _asked(self, method: str, path: str, guarded: _Guarded, headers: Mapping[str, str]) -> Reply:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=Guard(self._egress), limit=self._connections, keepalive_timeout=_IDLE_S, use_dns_cache=False
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=self._headers,
                timeout=self._timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        data = None if method == "GET" else guarded
        if data is None:
            guarded.begin()
        async with self._session.request(
            method, self._base + path, data=data, headers=headers, allow_redirects=False
        ) as answer:
            body = await answer.content.read(_MOST_ANSWER_BYTES + 1)
            while len(body) <= _MOST_ANSWER_BYTES and not answer.content.at_eof():
                body += await answer.content.read(_CHUNK)
            return Reply(answer.status, {k.lower(): v for k, v in answer.headers.items()}, body[:_MOST_ANSWER_BYTES])

    async def _forbidden(self) -> Trouble | None:
        """A numeric address is not resolved by anybody, so the guard is asked here; once, it says the same again."""
        if self._is_allowed or (not self._host.replace(".", "").isdigit() and ":" not in self._host):
            return None
        try:
            await self._egress.resolve(self._host, self._port)
        except Refused as error:
            return Trouble("not_sent", "target_refused", error.message)
        except Unavailable as error:
            return Trouble("not_sent", "api_unreachable", error.message)
        self._is_allowed = True
        return None


class _Guarded(Payload):
    """A body that asks for leave before anything of the request is written: headers go with its first byte."""

    def __init__(self, value: bytes, content_type: str, leave: Leave | None) -> None:
        super().__init__(value, content_type=content_type)
        self._bytes = value
        self._size = len(value)
        self._leave = leave
        self.is_begun = False
        self.on_begin: Callable[[], None] = _nothing
        self.withheld: str | None = None

    def begin(self) -> None:
        """From now on the request may have been taken."""
        self.is_begun = True
        self.on_begin()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The body as text."""
        return self._bytes.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write all of it, if it may leave."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write all of it, if it may leave; a refusal ends the connection with nothing written."""
        del content_length
        if self._leave is not None and not self.is_begun:
            self.withheld = self._leave()
            if self.withheld is not None:
                raise ConnectionAbortedError
        if not self.is_begun:
            self.begin()
        for at in range(0, max(1, len(self._bytes)), _CHUNK):
            await writer.write(self._bytes[at : at + _CHUNK])


class Guard(AbstractResolver):
    """The guard as a resolver: what it gives is what is dialled."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses that may be dialled. Raises OSError, which `is_refused` tells apart."""
        try:
            found = await self._egress.resolve(host, port)
        except Refused as error:
            raise _NotAllowed(error.message) from None
        except Unavailable as error:
            raise OSError(error.message) from None
        del family
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _nothing() -> None:
    """Nobody waits for the beginning."""


class _NotAllowed(OSError):
    """The guard said no."""


def is_refused(error: BaseException) -> bool:
    """Whether the guard said no, and not the network."""
    return isinstance(error, _NotAllowed) or isinstance(error.__cause__, _NotAllowed)


def _trouble(error: BaseException, guarded: _Guarded) -> Trouble:
    """What a fault means: before the first byte nothing was sent, after it nobody knows."""
    if guarded.withheld is not None:
        return Trouble("withheld", "", guarded.withheld)
    if guarded.is_begun and not isinstance(error, aiohttp.ClientConnectorError):
        what = "no whole answer in time" if isinstance(error, TimeoutError) else "the connection broke"
        return Trouble("lost", "answer_lost", f"{what} after the request was written")
    inner: Any = getattr(error, "os_error", None) or error
    if is_refused(inner):
        return Trouble("not_sent", "target_refused", str(inner))
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return Trouble("not_sent", "tls_failed", "the certificate or the TLS handshake was not acceptable")
    if isinstance(error, TimeoutError):
        return Trouble("not_sent", "api_timeout", "no connection in time")
    return Trouble("not_sent", "api_unreachable", f"no connection: {inner.strerror or type(inner).__name__}"[:200])
