"""The addresses at which providers report, as a raw ASGI application: verified, kept, committed, then answered.

Owns `/cb/{provider}/{token}`. The address a signature is compared with comes from configuration, never from a Host
header. What is not taken is counted and answered cheaply: without its body where its headers tell enough, else without
a look at what it means; it costs no statement and no line in the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, cast
from uuid import UUID

import structlog
from litestar.types import Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Gauge

from outrider.base.errors import Refused, Unavailable
from outrider.contracts.callbacks import CallbackRequest, Callbacks, Reports
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.callbacks import look
from outrider.domain.callbacks.address import PREFIX, base_of, signer_of
from outrider.domain.callbacks.take import Came
from outrider.domain.senders import connections
from outrider.domain.senders.connections import Vault
from outrider.engine.inbound.desk import Desk, Tally
from outrider.interfaces.api.exchange import Exchange, exchange_in
from outrider.interfaces.api.middleware.proxies import Network, is_within

_log = structlog.get_logger(__name__)
_MOST_BYTES = 256 << 10
_FRESH_S = 5.0
_SAID_EVERY_S = 10.0
_MOST_KNOWN = 1_000
_TEMPLATE = f"{PREFIX}{{provider}}/{{token}}"
_Named = tuple[UUID, UUID]
"""Tenant and connection."""


@dataclass(slots=True)
class _Known:
    """A connection as it was a moment ago."""

    provider: str
    channel: str
    callbacks: Callbacks
    base: str
    settings: Mapping[str, Any]
    secrets: Mapping[str, str]
    exceptions: list[tuple[Network, float]]
    """Networks, and until when since 1970."""
    tally: Tally
    taken: Counter
    refused: Counter
    read_s: float
    said_s: float = 0.0

    def excepts(self, source: str, at_s: float) -> bool:
        """Whether what comes from there is taken without a right signature at this moment."""
        return bool(self.exceptions) and is_within(source, [each for each, ends_s in self.exceptions if ends_s > at_s])


class CallbackApp:
    """The raw ASGI application of one API process."""

    def __init__(self, runtime: Runtime, registry: CollectorRegistry) -> None:
        self._runtime = runtime
        self._vault = Vault(runtime.providers, runtime.keyring, runtime.egress)
        self._signer = signer_of(runtime.keyring)
        self._at: dict[str, _Known] = {}
        """By the path under which they report, so that a path is understood once; only paths that we made."""
        self._known: dict[_Named, _Known] = {}
        self._nobody: dict[_Named, float] = {}
        self._reading: dict[_Named, asyncio.Task[_Known | None]] = {}
        self.desk = Desk(runtime)
        self._counts = Counter(
            "outrider_callbacks", "Callbacks of providers, by what became of them.", ["app", "provider", "result"],
            registry=registry,
        )  # fmt: skip
        self._nowhere = self._counts.labels(runtime.settings.app_label, "unknown", "refused")
        self._nowhere_said_s = 0.0
        desk, label = self.desk, runtime.settings.app_label
        for name, text, read in (
            (
                "outrider_callback_lag_seconds",
                "Seconds the oldest report waits for its turn; a new one since it came.",
                lambda: desk.lag_s,
            ),
            ("outrider_callbacks_parked", "Reports that could not be applied yet.", lambda: desk.parked_count),
            ("outrider_callback_parked_age_seconds", "Seconds since the oldest of them came.", lambda: desk.parked_s),
        ):
            Gauge(name, text, ["app"], registry=registry).labels(label).set_function(read)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take callbacks while the block runs; at its end what is under way is finished."""
        self.desk.start()
        try:
            yield
        finally:
            await self.desk.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request below `/cb/`: what is refused costs as little as can be, and no line in the access log."""
        cast("dict[str, Any]", scope)["path_template"] = _TEMPLATE
        exchange = exchange_in(cast("Mapping[str, Any]", scope))
        known = self._at.get(scope["path"])
        if known is None or time.monotonic() - known.read_s > _FRESH_S:
            known = await self._find(scope["path"])
        if known is None:
            exchange.is_told_elsewhere = True
            self._note_nowhere(exchange.client_ip)
            raise Refused("not_found", "there is nothing here", status=404)
        if exchange.method != "POST":
            self._refused(known, exchange, "wrong_method")
            await _plain(send, 405, (b"allow", b"POST"))
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        at_s = time.time()
        wrong = known.callbacks.glance(headers, at_s)
        if wrong is not None and not known.excepts(exchange.client_ip, at_s):
            self._refused(known, exchange, wrong)
            await _plain(send, 403)
            return
        try:
            body = await _read(receive, headers.get("content-length", ""))
        except Refused as error:
            self._refused(known, exchange, error.code)
            raise
        target = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
        query = scope.get("query_string", b"").decode("latin-1")
        request = CallbackRequest(f"{target}?{query}" if query else target, headers, body, at_s)
        await self._take(known, request, exchange, send)

    async def _take(self, known: _Known, request: CallbackRequest, exchange: Exchange, send: Send) -> None:
        source = exchange.client_ip
        wrong = known.callbacks.verify(request, known.base, known.settings, known.secrets)
        if wrong is not None and not known.excepts(source, request.at_s):
            self._refused(known, exchange, wrong)
            await _plain(send, 403)
            return
        try:
            told = known.callbacks.read(request, known.settings)
        except Refused as error:
            self._refused(known, exchange, error.code)
            raise
        signature = "genuine" if wrong is None else "excepted"
        digest = hashlib.sha256(request.body).digest()
        tally = known.tally
        came = [Came(tally.connection_id, known.provider, each, digest, signature, source) for each in told]
        # one after the other: nearly every callback tells one thing
        replies = [await self.desk.take(tally.tenant_id, known.channel, each) for each in came]
        exchange.is_told_elsewhere = True  # in `webhook_events`
        known.taken.inc()
        kind, body = known.callbacks.answer(next(filter(None, replies), ""))
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _refused(self, known: _Known, exchange: Exchange, reason: str) -> None:
        """Count it, and say so in the log, but not for each of a thousand a second [S1-36]."""
        exchange.is_told_elsewhere = True  # counted by the minute: a line each would be the dearest part of it
        known.refused.inc()
        self.desk.refuse(known.tally, exchange.client_ip, reason)
        now_s = time.monotonic()
        if now_s - known.said_s > _SAID_EVERY_S:
            known.said_s = now_s
            connection_id = str(known.tally.connection_id)
            _log.warning("webhook_refused", connection=connection_id, reason=reason, ip=exchange.client_ip)

    def _note_nowhere(self, source: str) -> None:
        """Count what came to an address that is none, and say so now and then."""
        self._nowhere.inc()
        now_s = time.monotonic()
        if now_s - self._nowhere_said_s > _SAID_EVERY_S:
            self._nowhere_said_s = now_s
            _log.warning("webhook_nowhere", ip=source)

    async def _find(self, path: str) -> _Known | None:
        """The connection that reports under a path; None when there is none."""
        provider, _, token = path.removeprefix(PREFIX).partition("/")
        named = self._signer.read(token)
        known = await self._connection(named, provider) if named is not None else None
        if known is None:
            self._at.pop(path, None)
            return None
        if len(self._at) >= _MOST_KNOWN:
            self._at.clear()
        self._at[path] = known
        return known

    async def _connection(self, named: _Named, provider: str) -> _Known | None:
        """The connection, at most five seconds old; None when there is none that reports by this address."""
        now_s = time.monotonic()
        known = self._known.get(named)
        if known is None or now_s - known.read_s > _FRESH_S:
            if now_s - self._nobody.get(named, -_FRESH_S) < _FRESH_S:
                return None
            known = await self._fresh(named)
        return known if known is not None and known.provider == provider else None

    async def _fresh(self, named: _Named) -> _Known | None:
        """Read a connection; of callbacks that come together one asks the database."""
        task = self._reading.get(named)
        if task is None:
            task = self._reading[named] = asyncio.create_task(self._look_up(named))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting any more
        return await asyncio.shield(task)

    async def _look_up(self, named: _Named) -> _Known | None:
        try:
            found = await self._read(named)
        finally:
            del self._reading[named]
        before = self._known.pop(named, None)
        for memory in (self._known, self._nobody):
            if len(memory) >= _MOST_KNOWN:
                memory.clear()
        if found is None:
            self._nobody[named] = time.monotonic()
            return None
        if before is not None:
            found.said_s = before.said_s
        self._nobody.pop(named, None)
        self._known[named] = found
        return found

    async def _read(self, named: _Named) -> _Known | None:
        tenant_id, connection_id = named
        try:
            async with self._runtime.db.uow(Role.APP, tenant_id) as uow:
                account = await connections.opened(uow, self._vault, connection_id)
                allowed = await look.exceptions(uow, connection_id=connection_id)
        except Refused:
            return None
        if not isinstance(account.provider, Reports):
            return None
        label = self._runtime.settings.app_label
        return _Known(
            provider=account.provider.key,
            channel=account.provider.channel,
            callbacks=account.provider.callbacks,
            base=base_of(account.settings, self._runtime.settings.public_url),
            settings=account.settings,
            secrets=account.secrets,
            exceptions=[(ip_network(each.network), each.ends_at.timestamp()) for each in allowed],
            tally=Tally(tenant_id, connection_id),
            taken=self._counts.labels(label, account.provider.key, "taken"),
            refused=self._counts.labels(label, account.provider.key, "refused"),
            read_s=time.monotonic(),
        )


async def _read(receive: Receive, announced: str) -> bytes:
    """The whole body; one that is announced to be too large is not begun with.

    Raises:  Refused(body_too_large, 413); Unavailable when the caller hung up.
    """
    if announced.isdecimal() and int(announced) > _MOST_BYTES:
        raise Refused("body_too_large", f"a callback has at most {_MOST_BYTES} bytes", status=413)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Unavailable("caller_gone", "the caller hung up")
        part = message.get("body", b"")
        size += len(part)
        if size > _MOST_BYTES:
            raise Refused("body_too_large", f"a callback has at most {_MOST_BYTES} bytes", status=413)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _plain(send: Send, status: int, *more: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0"), *more]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
