"""Sign-in and rate of every routed request: who is it, and does it ask too often.

Owns reading credentials and the short memory of keys; never decides what a caller may do (guards of routes do).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, cast

from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.tenants import keys, sessions
from outrider.interfaces.api.browsers import refuse_cross_site, session_token
from outrider.interfaces.api.exchange import Exchange, exchange_in
from outrider.interfaces.api.middleware.buckets import Buckets, source_of
from outrider.interfaces.api.strictness import is_public
from outrider.interfaces.api.tokens import Tokens
from outrider.interfaces.auth import Principal

_SAFE = {"GET", "HEAD", "OPTIONS"}
_KEY_MEMORY_S = 0.5
"""Revoked keys are refused everywhere within a second: half of it is this memory."""

_MOST_KEYS = 10_000
_OPEN_PER_S, _OPEN_BURST = 2.0, 20.0
"""Credentials per source address where nothing else limits: a monitor asks every few seconds."""


class Authenticator:
    """Finds the principal of a request's credentials."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.tokens = Tokens(runtime.keyring)
        self._keys: dict[bytes, tuple[float, asyncio.Task[Principal | None]]] = {}
        self._in_the_open = Buckets(_OPEN_PER_S, _OPEN_BURST)

    async def identify(self, headers: Headers, exchange: Exchange) -> Principal | None:
        """Who is calling; None when no credential was given.

        Raises:  Refused(unauthenticated, 401) for a credential that is not, or no longer, valid; Refused(cross_site).
        """
        authorization = headers.get("authorization")
        if authorization is not None:
            found = await self._bearer(authorization, exchange)
            if found is None:
                raise Refused("unauthenticated", "this key or token is not valid", status=401)
            return found
        token = session_token(headers.get("cookie", ""), self._runtime.settings)
        token_hash = sessions.hash_token(token) if token else None
        found = await self._session(token_hash, exchange, "session") if token_hash else None
        if found is not None and exchange.method not in _SAFE:
            fetch_site, origin = headers.get("sec-fetch-site"), headers.get("origin")
            refuse_cross_site(exchange, fetch_site, origin, self._runtime.settings)
        if found is None and token:
            raise Refused("unauthenticated", "this session has ended; sign in again", status=401)
        return found

    async def identify_in_the_open(self, headers: Headers, exchange: Exchange) -> Principal | None:
        """`identify` for routes that answer everybody and limit nobody: there credentials cannot be tried without end.

        Raises:  as `identify`; Refused(rate_limited, 429) before anything is looked up.
        """
        if ("authorization" in headers or "cookie" in headers) and (
            wait_s := self._in_the_open.take(source_of(exchange.client_ip))
        ):
            raise Refused("rate_limited", "too many sign-ins here", status=429, retry_after_s=max(1, math.ceil(wait_s)))
        return await self.identify(headers, exchange)

    def forget_keys(self) -> None:
        """Look every key up anew: one was revoked here."""
        self._keys.clear()

    async def _bearer(self, authorization: str, exchange: Exchange) -> Principal | None:
        scheme, _, credential = authorization.partition(" ")
        credential = credential.strip()
        if scheme.lower() != "bearer" or not credential:
            return None
        if credential.startswith(keys.PREFIX):
            key_hash = keys.hash_key(credential)
            principal = await self._key(key_hash) if key_hash else None
            return _at(principal, exchange)
        claim = self.tokens.read(credential)
        return await self._session(claim.session_hash, exchange, "jwt") if claim else None

    async def _session(self, token_hash: bytes, exchange: Exchange, via: str) -> Principal | None:
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            found = await sessions.find(uow, token_hash, idle_s=self._runtime.settings.session_idle_s)
        if found is None:
            return None
        return Principal(
            tenant_id=found.tenant_id,
            actor=Actor("user", found.email, exchange.client_ip),
            role=found.role,
            scopes=frozenset(),
            is_installation_admin=found.is_installation_admin,
            via=cast("Any", via),
            user_id=found.user_id,
            session_hash=found.token_hash,
        )

    async def _key(self, key_hash: bytes) -> Principal | None:
        """The key's principal, remembered for half a second; parallel requests share one look-up."""
        now_s = monotonic()
        ends_s, task = self._keys.get(key_hash, (0.0, None))
        if task is None or ends_s < now_s:
            if len(self._keys) >= _MOST_KEYS:
                self._keys.clear()
            task = asyncio.create_task(self._look_up(key_hash))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting any more
            self._keys[key_hash] = (now_s + _KEY_MEMORY_S, task)
        try:
            return await asyncio.shield(task)
        except Exception:
            self._keys.pop(key_hash, None)
            raise

    async def _look_up(self, key_hash: bytes) -> Principal | None:
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            found = await keys.find(uow, key_hash)
        if found is None:
            return None
        actor = Actor("key", found.name)
        scopes = frozenset(found.scopes)
        return Principal(found.tenant_id, actor, found.role, scopes, False, "key", key_id=found.id)  # noqa: FBT003 - a key never is


class Entry:
    """The middleware of every route."""

    def __init__(
        self, app: ASGIApp, *, authenticator_in: Callable[[Scope], Authenticator], rate_in: Callable[[Scope], Buckets]
    ) -> None:
        self._app = app
        self._authenticator_in = authenticator_in
        self._rate_in = rate_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Establish the principal and count the request."""
        if scope["type"] == ScopeType.HTTP and scope["method"] != "OPTIONS":
            handler = scope["route_handler"]
            exchange, rate = exchange_in(cast("Mapping[str, Any]", scope)), self._rate_in(scope)
            principal: Principal | None = None
            if not is_public(handler):
                try:
                    principal = await self._authenticator_in(scope).identify(Headers.from_scope(scope), exchange)
                except Refused:
                    _count(rate, f"ip {source_of(exchange.client_ip)}", exchange)
                    raise
            caller = str(principal.key_id or principal.user_id) if principal else f"ip {source_of(exchange.client_ip)}"
            if principal:
                exchange.who = principal.actor.name if principal.via == "key" else str(principal.user_id)
                scope["user"], scope["auth"] = principal, principal.via
            if not handler.opt.get("is_unlimited"):
                _count(rate, caller, exchange)
        await self._app(scope, receive, send)


def _count(rate: Buckets, caller: str, exchange: Exchange) -> None:
    """Take a token. Raises Refused(rate_limited, 429) with Retry-After."""
    wait_s = rate.take(caller)
    exchange.rate_headers = rate.headers(caller)
    if wait_s:
        raise Refused(
            "rate_limited", "too many requests; slow down", status=429, retry_after_s=max(1, math.ceil(wait_s))
        )


def _at(principal: Principal | None, exchange: Exchange) -> Principal | None:
    """The remembered principal of a key with the address of this request."""
    if principal is None:
        return None
    actor = Actor(principal.actor.kind, principal.actor.name, exchange.client_ip)
    return Principal(
        principal.tenant_id,
        actor,
        principal.role,
        principal.scopes,
        principal.is_installation_admin,
        principal.via,
        key_id=principal.key_id,
    )
