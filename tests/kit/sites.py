"""Web servers on this machine for tests of links: they note who asked for what, and answer as they are told.

API
    site(host=, context=) -> Site        a running server
        .url(path, host=)                an address on it, by another name if need be
        .answers[path]                   what it answers there; else 200
        .asked, .headers                 what it was asked, in order
    leading(to, status=), answering(status)   answers
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
Answer = Callable[[web.BaseRequest], web.StreamResponse]


@dataclass
class Site:
    """A server that notes who asked for what; `answers` by path, else 200."""

    host: str
    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    at_once: int = 0
    most_at_once: int = 0

    def url(self, path: str, host: str = "") -> str:
        return f"http://{host or self.host}:{self.port}{path}"

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append((request.method, request.path_qs))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if request.path == "/never":
                await asyncio.Event().wait()
            await asyncio.sleep(0)  # the others may come in
            answer = self.answers.get(request.path)
            return web.Response(text="here") if answer is None else answer(request)
        finally:
            self.at_once -= 1


@asynccontextmanager
async def site(host: str = HERE, context: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    made = Site(host)
    runner = web.ServerRunner(web.Server(made.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, host, 0, ssl_context=context).start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()


def leading(to: str, status: int = 302) -> Answer:
    return lambda _: web.Response(status=status, headers={"Location": to})


def answering(status: int) -> Answer:
    return lambda _: web.Response(status=status)
