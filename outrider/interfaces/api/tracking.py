"""The addresses behind tracked links and opening pixels, as a raw ASGI application: answered at once, stored later.

Owns `/t/c/{token}` (302 to where the link leads, out of the database alone) and `/t/o/{token}.gif` (one transparent
pixel, whatever happens). No cookie, no sign-in, no script; of a request only the verdict person or machine is kept.
Somebody who clicks is never refused for coming often, only whoever guesses.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html import escape
from ipaddress import ip_network
from typing import Any, cast
from uuid import UUID

from litestar.types import Receive, Scope, Send
from prometheus_client import CollectorRegistry

from outrider.base.errors import Refused, Unavailable
from outrider.base.signing import TrackingSigner
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.tracking import destinations, machines
from outrider.domain.tracking.destinations import Destination
from outrider.domain.tracking.judge import CLICK, OPEN
from outrider.interfaces.api.exchange import Exchange, exchange_in
from outrider.interfaces.api.middleware.buckets import Buckets, source_of
from outrider.interfaces.api.middleware.proxies import is_within
from outrider.interfaces.api.pages import page
from outrider.interfaces.api.tracking_buffer import Buffer, Key

PREFIX = "/t/"
CLICKS, OPENS = "/t/c/", "/t/o/"
_GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
_PIXEL_HEADERS = [
    (b"content-type", b"image/gif"),
    (b"content-length", str(len(_GIF)).encode()),
    (b"cache-control", b"no-store, no-cache, must-revalidate, private"),
    (b"cross-origin-resource-policy", b"cross-origin"),  # mail programs show it inside pages of their own
    (b"x-robots-tag", b"noindex, nofollow"),
]
_MOST_DESTINATIONS = 10_000
_METHODS = {"GET", "HEAD"}
_SORRY = {
    404: ("This link does not work", "It is incomplete or too old. Open it again from the message."),
    405: ("This link is only to be opened", "Open it from the message."),
    429: ("Too many tries", "Please wait a minute, then open the link in the message again."),
    503: ("This did not work just now", "Please try again in a few minutes."),
}


class Destinations:
    """Where links lead, remembered: what they lead to never changes. One question at a time per link and message."""

    def __init__(self, runtime: Runtime) -> None:
        self._db = runtime.db
        self._known: OrderedDict[tuple[UUID, int], Destination] = OrderedDict()
        self._asked: dict[tuple[UUID, int], asyncio.Task[Destination | None]] = {}
        self._variables: dict[tuple[UUID, UUID], asyncio.Task[str | None]] = {}

    async def url(self, tenant_id: UUID, message_id: UUID, link: int) -> str | None:
        """Where a link of a message leads; None when it leads nowhere (any more).

        Raises:  Unavailable.
        """
        key = (tenant_id, link)
        found = self._known.get(key)
        if found is None:
            found = await self._ask(key)
        if found is None:
            return None
        if not found.has_variables:
            return found.constant
        variables = await self._variables_of(tenant_id, message_id)
        return None if variables is None else found.url(variables)

    async def _variables_of(self, tenant_id: UUID, message_id: UUID) -> str | None:
        """Asked once for all who click at this moment: a link that is followed without end holds one connection."""
        key = (tenant_id, message_id)
        task = self._variables.get(key)
        if task is None:
            task = self._variables[key] = asyncio.create_task(self._read_variables(*key))
            task.add_done_callback(lambda _done: self._variables.pop(key, None))
        return await asyncio.shield(task)

    async def _read_variables(self, tenant_id: UUID, message_id: UUID) -> str | None:
        async with self._db.uow(Role.APP, tenant_id) as uow:
            return await destinations.variables_of(uow.raw, tenant_id, message_id)

    async def _ask(self, key: tuple[UUID, int]) -> Destination | None:
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(self._read(*key))
            task.add_done_callback(lambda _done: self._asked.pop(key, None))
        found = await asyncio.shield(task)
        if found is not None:
            self._known[key] = found
            if len(self._known) > _MOST_DESTINATIONS:
                self._known.popitem(last=False)
        return found

    async def _read(self, tenant_id: UUID, link: int) -> Destination | None:
        async with self._db.uow(Role.APP, tenant_id) as uow:
            return await destinations.find(uow.raw, tenant_id, link)


class TrackingApp:
    """The raw ASGI application of one API process."""

    def __init__(self, runtime: Runtime, registry: CollectorRegistry) -> None:
        self._signer = TrackingSigner(runtime.keyring.derive("tracking"))
        self._destinations = Destinations(runtime)
        self._scanners = [ip_network(network) for network in runtime.settings.tracking_scanner_networks]
        self._guesses = Buckets(1.0, 20.0)
        self.buffer = Buffer(runtime, registry)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Store what comes in while the block runs; at its end what is left."""
        self.buffer.start()
        try:
            yield
        finally:
            await self.buffer.close()

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request below `/t/`."""
        path = scope["path"]
        exchange = exchange_in(cast("Mapping[str, Any]", scope))
        exchange.is_unlogged = True  # who opened what from where is nobody's business
        if path.startswith(OPENS):
            cast("dict[str, Any]", scope)["path_template"] = "/t/o/{token}"
            await self._opened(path[len(OPENS) :].removesuffix(".gif"), scope, exchange, send)
            return
        cast("dict[str, Any]", scope)["path_template"] = "/t/c/{token}"
        await self._clicked(path[len(CLICKS) :] if path.startswith(CLICKS) else "", scope, exchange, send)

    async def _opened(self, token: str, scope: Scope, exchange: Exchange, send: Send) -> None:
        """A pixel, always: a broken image would only trouble the reader."""
        method = exchange.method
        read = self._signer.read(TrackingSigner.OPEN, token) if method in _METHODS else None
        if method not in _METHODS:
            await _sorry(405, exchange, send, (b"allow", b"GET, HEAD"))
            return
        if read is None:
            wait_s = self._guesses.take(source_of(exchange.client_ip))
            if wait_s:
                await _sorry(429, exchange, send, (b"retry-after", str(math.ceil(wait_s)).encode()))
                return
        elif method == "GET":
            self.buffer.add(Key(read[0], read[1], OPEN, 0, self._verdict(scope, exchange)))
        await send({"type": "http.response.start", "status": 200, "headers": list(_PIXEL_HEADERS)})
        await send({"type": "http.response.body", "body": _GIF if method == "GET" else b"", "more_body": False})

    async def _clicked(self, token: str, scope: Scope, exchange: Exchange, send: Send) -> None:
        method = exchange.method
        if method not in _METHODS:
            await _sorry(405, exchange, send, (b"allow", b"GET, HEAD"))
            return
        read = self._signer.read(TrackingSigner.CLICK, token)
        if read is None:
            wait_s = self._guesses.take(source_of(exchange.client_ip))
            retry = ((b"retry-after", str(math.ceil(wait_s)).encode()),) if wait_s else ()
            await _sorry(429 if wait_s else 404, exchange, send, *retry)
            return
        tenant_id, message_id, link = read
        try:
            url = await self._destinations.url(tenant_id, message_id, link)
        except (Unavailable, Refused):
            await _sorry(503, exchange, send, (b"retry-after", b"5"))
            return
        if url is None:
            await _sorry(404, exchange, send)
            return
        if method == "GET":
            self.buffer.add(Key(tenant_id, message_id, CLICK, link, self._verdict(scope, exchange)))
        headers = [
            (b"location", url.encode("ascii")),
            (b"content-length", b"0"),
            (b"cache-control", b"no-store, private"),
            (b"x-robots-tag", b"noindex, nofollow"),
        ]
        await send({"type": "http.response.start", "status": 302, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _verdict(self, scope: Scope, exchange: Exchange) -> str:
        if self._scanners and is_within(exchange.client_ip, self._scanners):
            return machines.NETWORK
        return machines.verdict(dict(scope["headers"]))


async def _sorry(status: int, exchange: Exchange, send: Send, *more: tuple[bytes, bytes]) -> None:
    """A page for a person; nothing in it comes from the request."""
    title, text = _SORRY[status]
    note = f'<p class="note">If it happens again, answer the message and mention: {escape(exchange.request_id)}</p>'
    answer = page(status, title, f"<h1>{title}</h1><p>{text}</p>{note}")
    body = str(answer.content).encode() if exchange.method != "HEAD" else b""
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
    headers += [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
