"""The SMTP intake on a socket of its own with a real database, and letters to submit.

API
    intake_of(url, **settings) -> async context manager of Intake     listens on loopback, port chosen by the system
        .address, .api                                                 (host, port); runtime, keys and units of work
        .talk(key) -> async context manager of Talk                    greeted, and signed in when there is a key
        .send(key, message, *recipients)                               one whole transaction
        .addresses()                                                   whom messages were accepted for, oldest first
    letter(*headers, body=…) -> bytes                                  a message with these headers, From and Subject as
                                                                       usual unless they are among them
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.interfaces.submission import serve
from tests.kit.api import Api, runtime_for
from tests.kit.smtp_talk import Talk

_BOUND_S = 180.0
_SENDER = (
    "WITH account AS (INSERT INTO connections (tenant_id, name, provider) VALUES ($1, 'c', 'smtp') RETURNING id) "
    "INSERT INTO senders (tenant_id, name, channel, connection_id, from_address, reply_to) "
    "SELECT $1, 'news', 'email', id, 'news@example.org', 'answers@example.org' FROM account"
)
USUAL = {b"From": b"The news <news@example.org>", b"Subject": b"Hello"}


def letter(*headers: bytes, body: bytes = b"Hello.\r\n") -> bytes:
    """A message as it goes over the wire, without its last dot."""
    given = {header.partition(b":")[0].lower() for header in headers}
    usual = [name + b": " + value for name, value in USUAL.items() if name.lower() not in given]
    return b"".join(line + b"\r\n" for line in (*headers, *usual)) + b"\r\n" + body


def plain(key: str) -> bytes:
    """AUTH PLAIN with a key."""
    return b"AUTH PLAIN " + base64.b64encode(b"\0anybody\0" + key.encode()) + b"\r\n"


@dataclass(slots=True)
class Intake:
    """A running intake."""

    api: Api
    address: tuple[str, int]

    @asynccontextmanager
    async def talk(self, key: str = "") -> AsyncIterator[Talk]:
        async with Talk(self.address) as talk:
            await talk.say(b"EHLO me\r\n", expect=250)
            if key:
                await talk.say(plain(key), expect=235)
            yield talk

    async def send(self, key: str, message: bytes, *recipients: str, expect: int = 250) -> bytes:
        """One whole transaction; gives the answer to its dot."""
        async with self.talk(key) as talk:
            await talk.say(b"MAIL FROM:<bounce@example.org>\r\n", expect=250)
            for recipient in recipients or ("ann@example.org",):
                await talk.say(f"RCPT TO:<{recipient}>\r\n".encode(), expect=250)
            await talk.say(b"DATA\r\n", expect=354)
            return await talk.say(message + b".\r\n", expect=expect)

    async def addresses(self) -> list[str]:
        async with self.api.engine() as uow:
            rows = await uow.raw.fetch("SELECT address FROM messages ORDER BY id")
        return [row["address"] for row in rows]


@asynccontextmanager
async def intake_of(url: str, **settings: Any) -> AsyncIterator[Intake]:
    """Run an intake until the block ends."""
    runtime = runtime_for(url, submission_port=0, **settings)
    where: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(runtime, ready=where.set_result, stop=stop))
    try:
        async with asyncio.timeout(_BOUND_S):
            await asyncio.wait([serving, asyncio.ensure_future(where)], return_when=asyncio.FIRST_COMPLETED)
        if not where.done():
            await serving
        parts = urlsplit(await where)
        async with runtime.db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
            await uow.raw.execute(_SENDER, DEFAULT_TENANT)
        yield Intake(Api("", runtime), (str(parts.hostname), int(parts.port or 0)))
    finally:
        stop.set()
        try:
            async with asyncio.timeout(_BOUND_S):
                await serving
        finally:
            await runtime.db.close()
