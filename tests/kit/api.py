"""The API on a socket of its own with a real database, and callers of it.

API
    api_of(url, **settings) -> async context manager of Api     a running server on loopback, port chosen by the system
        .url, .runtime                                           base URL; the process's runtime (pool of role none)
        .app() / .engine()                                       units of work of the default tenant
        .user(email, role, …) -> users.User                      a user with the password PASSWORD
        .key(*scopes, role=…) -> str                             an API key
        .signed_in(email) -> Caller                              a browser with a session
        .caller(key=…) -> Caller                                 a program
    runtime_for(url, **settings) -> Runtime                      without a server; close its `db`
    Caller.get/post/put/patch/delete(path, …) -> Answer          `.status`, `.headers`, `.json`, `.text`
    raw(url, *parts) -> bytes                                    bytes on the wire, for what no client library sends
    refill_nothing(monkeypatch)                                  rates of callers as if no time passed
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from time import monotonic
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.base.registry import discover
from outrider.base.secret import Keyring, new_key
from outrider.base.settings import load
from outrider.base.signing import LinkSigner
from outrider.contracts.actor import Actor
from outrider.contracts.channel import Channel
from outrider.contracts.gate import Gate
from outrider.contracts.jobs import JobType
from outrider.data.db import Database, Role, UnitOfWork
from outrider.data.egress import Egress
from outrider.data.runtime import Runtime
from outrider.domain.tenants import keys, users
from outrider.domain.tenants.passwords import hashed
from outrider.engine.jobs.port import JobPort
from outrider.interfaces.api.application import serve
from tests.kit.audience import PlainEmail
from tests.kit.rendering import InProcessRenderer

PASSWORD = "a quite unusual phrase 7"
TESTER = Actor("cli", "cli:tester")
_BOUND_S = 180.0
_READ_S = 30.0
"""How long raw bytes are waited for when nobody hangs up."""


@dataclass(slots=True)
class Answer:
    """One answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    text: str
    cookies: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str:
        """The code of a problem."""
        return str(self.json["code"])


@dataclass(slots=True)
class Caller:
    """A program or a browser: headers it always sends, and its cookies."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, *, body: Any = None, **more: Any) -> Answer:
        """One request; `body` goes as JSON, `data` as bytes."""
        headers = {**self.headers, **more.pop("headers", {})}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if body is not None:
            more["data"] = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        skipped = [] if "Content-Type" in headers else ["Content-Type"]
        session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(_BOUND_S), cookie_jar=aiohttp.DummyCookieJar(), skip_auto_headers=skipped
        )
        async with session, session.request(method, self.url + path, headers=headers, **more) as response:
            cookies = {name: morsel.value for name, morsel in response.cookies.items()}
            return Answer(response.status, response.headers, await response.text(), cookies)

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.ask("GET", path, **more)

    async def post(self, path: str, body: Any = None, **more: Any) -> Answer:
        return await self.ask("POST", path, body=body, **more)

    async def put(self, path: str, body: Any = None, **more: Any) -> Answer:
        return await self.ask("PUT", path, body=body, **more)

    async def patch(self, path: str, body: Any = None, **more: Any) -> Answer:
        return await self.ask("PATCH", path, body=body, **more)

    async def delete(self, path: str, **more: Any) -> Answer:
        return await self.ask("DELETE", path, **more)


@dataclass(slots=True)
class Api:
    """A running API."""

    url: str
    runtime: Runtime

    def app(self, tenant_id: UUID = DEFAULT_TENANT) -> AbstractAsyncContextManager[UnitOfWork]:
        return self.runtime.db.uow(Role.APP, tenant_id)

    def engine(self, tenant_id: UUID | None = DEFAULT_TENANT) -> AbstractAsyncContextManager[UnitOfWork]:
        return self.runtime.db.uow(Role.ENGINE, tenant_id)

    def caller(self, key: str = "", **headers: str) -> Caller:
        return Caller(self.url, {**({"Authorization": f"Bearer {key}"} if key else {}), **headers})

    async def user(self, email: str, role: str = "owner", **more: Any) -> users.User:
        password_hash = await hashed_once(more.pop("password", PASSWORD))
        async with self.app(more.pop("tenant_id", DEFAULT_TENANT)) as uow:
            return await users.create(uow, TESTER, email=email, role=role, password_hash=password_hash, **more)

    async def key(self, *scopes: str, role: str = "owner", tenant_id: UUID = DEFAULT_TENANT, **more: Any) -> str:
        async with self.app(tenant_id) as uow:
            return (await keys.create(uow, TESTER, name="test", role=role, scopes=list(scopes), **more))[1]

    async def signed_in(self, email: str, **more: Any) -> Caller:
        answer = await self.caller().post("/api/v1/auth/login", {"email": email, "password": PASSWORD, **more})
        assert answer.status == 200, answer.text
        return Caller(self.url, cookies=answer.cookies)


_hashes: dict[str, str] = {}


async def hashed_once(password: str) -> str:
    """A password's hash, made once per run: hashing is meant to be slow."""
    if password not in _hashes:
        _hashes[password] = await hashed(password)
    return _hashes[password]


@cache
def _keyring() -> Keyring:
    return Keyring(new_key())


@cache
def _job_types() -> dict[str, JobType]:
    return discover("outrider.plugins.jobs", "JOB")


def runtime_for(
    url: str, *, gates: tuple[Gate, ...] = (), channels: Mapping[str, Channel] | None = None, **settings: Any
) -> Runtime:
    """A runtime on a migrated database; `channels`: nothing but plain mail when there are none.

    Who waits for a connection waits longer than the product does: many at once on a slow machine are no overload.
    """
    found = load(api_port=0, **{"db_pool_wait_s": 30.0, **settings})
    keyring = _keyring()
    return Runtime(
        settings=found,
        database_url=url,
        db=Database(url, pool_size=found.db_pool_size, wait_s=found.db_pool_wait_s, name="outrider-test-api"),
        keyring=keyring,
        unsubscribe_links=LinkSigner(keyring.derive("unsubscribe")),
        egress=Egress([]),
        renderer=InProcessRenderer(),
        channels=channels or {"email": PlainEmail()},
        providers={},
        gates=gates,
        jobs=JobPort(_job_types()),
    )


@asynccontextmanager
async def api_of(url: str, **settings: Any) -> AsyncIterator[Api]:
    """Run an API until the block ends."""
    runtime = runtime_for(url, **settings)
    address: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(runtime, ready=address.set_result, stop=stop))
    try:
        async with asyncio.timeout(_BOUND_S):
            await asyncio.wait([serving, asyncio.ensure_future(address)], return_when=asyncio.FIRST_COMPLETED)
        if not address.done():
            await serving
        yield Api(await address, runtime)
    finally:
        stop.set()
        try:
            async with asyncio.timeout(_BOUND_S):
                await serving
        finally:
            await runtime.db.close()


def refill_nothing(patch: pytest.MonkeyPatch) -> None:
    """Let no bucket of a caller fill up again, however slow this machine is; what is in it can be counted then."""
    now_s = monotonic()
    patch.setattr("outrider.interfaces.api.middleware.buckets.monotonic", lambda: now_s)


async def raw(url: str, *parts: bytes, pause_s: float = 0.0, bound_s: float = _READ_S) -> bytes:
    """Send bytes and read until the server closes or `bound_s` ends; parts with a pause in between."""
    target = urlsplit(url)
    reader, writer = await asyncio.open_connection(target.hostname, target.port)
    received = bytearray()

    async def read() -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(65536):
                received.extend(chunk)

    reading = asyncio.create_task(read())
    try:
        async with asyncio.timeout(bound_s):
            with suppress(ConnectionError):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(pause_s)
            await reading
    except TimeoutError:
        reading.cancel()
    finally:
        writer.close()
    return bytes(received)
