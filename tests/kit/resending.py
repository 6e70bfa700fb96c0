"""An office that sends email by Resend: an API with the real channel and provider, and the Resend-shaped sandbox.

API
    resending(url, folder, monkeypatch) -> async context manager of Resending
        .owner                          a signed-in caller
        .sandbox, .connection, .sender  the account, its connection and sender as the API made them
        .callback_url                   where events are reported
        await .accepted(to) -> UUID     a message that waits for a worker
        async with .working()           a worker with its loops
        await .repeated()               what was lost is repeated, by hand
        await .tell(word, message_id, …)      an event, signed unless `headers` says otherwise
        await .applied()                what waits is applied
        await .state(message_id)        state and code
        await .rows(statement, *args)   as the engine
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Database, Role
from outrider.data.egress import Egress
from outrider.engine.dispatch.board import Board
from outrider.engine.dispatch.repeats import Repeater
from outrider.engine.dispatch.run import WorkerOptions, run
from outrider.engine.inbound import reports
from outrider.engine.inbound.reports import apply_due
from outrider.interfaces.sandbox.resend import ResendOptions, ResendSandbox
from outrider.interfaces.sandbox.resend.webhooks import headers_of
from outrider.plugins.channels.email import CHANNEL as EMAIL
from outrider.plugins.gates.do_not_contact import GATE as DO_NOT_CONTACT
from outrider.plugins.providers.resend import PROVIDER
from tests.kit import api as api_kit
from tests.kit.api import Api, Caller, api_of

BOUND_S = 120.0
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
KEY = "re_test"
DOMAIN = "example.org"
_HANDED_OVER = (
    "WITH gone AS (DELETE FROM queue WHERE tenant_id = $1 AND message_id = $2 RETURNING lane_id), "
    "counted AS (INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, n) "
    "SELECT $1, lane_id, date_trunc('hour', now()), 'sent', 1 FROM gone) "
    "UPDATE messages SET state = 'sent', provider_id = $3, finished_at = now() WHERE tenant_id = $1 AND id = $2"
)


@dataclass
class Resending:
    """What the module's docstring names."""

    api: Api
    owner: Caller
    sandbox: ResendSandbox
    connection: dict[str, Any]
    sender: dict[str, Any]
    callback_url: str
    http: aiohttp.ClientSession

    async def accepted(self, to: str = f"ann@{DOMAIN}", **more: Any) -> UUID:
        """A message that waits for a worker."""
        body = {"to": to, "subject": "Hello", "text": "Hello", "sender": self.sender["id"], **more}
        answer = await self.owner.post("/api/v1/messages", body)
        assert answer.status == 202, answer.text
        return UUID(answer.json["id"])

    async def sent(self, to: str = f"ann@{DOMAIN}") -> UUID:
        """A message that was handed over: no worker runs."""
        message_id = await self.accepted(to)
        await self.rows(_HANDED_OVER, message_id, str(message_id))
        return message_id

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """A worker with its loops until the block ends."""
        stop = asyncio.Event()
        runtime = self.api.runtime
        options, loops = WorkerOptions(health_port=None), reports.loops(runtime)
        task = asyncio.create_task(run(runtime, worker=options, stop=stop, ready=lambda _where: None, loops=loops))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, BOUND_S)

    async def repeated(self, *, is_due: bool = False) -> None:
        """Repeat what was lost, as a worker does, whether or not it is time; `is_due`: it is."""
        if not is_due:
            await self.rows("UPDATE keyed_requests SET due_at = now() WHERE tenant_id = $1")
        runtime = self.api.runtime
        database = Database(runtime.database_url, pool_size=1, role=Role.ENGINE)
        try:
            board = Board(database, runtime.settings.emergency_path)
            await board.refresh()
            await Repeater(runtime, database, board).step()
        finally:
            await database.close()

    async def until_state(self, state: str, count: int) -> None:
        """Wait until so many messages are in a state."""
        statement = "SELECT count(*) FROM messages WHERE tenant_id = $1 AND state = $2"
        async with asyncio.timeout(BOUND_S):
            while (await self.rows(statement, state))[0][0] != count:  # noqa: ASYNC110 - a row tells nobody
                await asyncio.sleep(0.02)

    async def tell(self, word: str, message_id: UUID | None, **more: Any) -> int:
        """One event; gives the status of the answer."""
        headers: Mapping[str, str] | None = more.pop("headers", None)
        named, at, secret = more.pop("named", ""), more.pop("at", None), more.pop("secret", SECRET)
        data = {
            "email_id": more.pop("email_id", str(message_id)), "to": [f"ann@{DOMAIN}"], "from": f"a@{DOMAIN}",
            "tags": {"outrider_message": str(message_id)} if message_id else {}, **more.pop("data", {}),
        }  # fmt: skip
        told = {"type": word, "created_at": "2026-11-20T10:00:00.000Z", "data": data, **more}
        body = json.dumps(told).encode()
        given = {**headers_of(secret, body, named=named, at=at), **(headers or {})}
        return await self.post(body, {name: text for name, text in given.items() if text})

    async def post(self, body: bytes, headers: Mapping[str, str]) -> int:
        """A request to where events are reported."""
        async with self.http.post(self.callback_url, data=body, headers=headers) as answer:
            return answer.status

    async def applied(self) -> int:
        """Apply what waits."""
        async with self.api.engine() as uow:
            return await apply_due(uow)

    async def state(self, message_id: UUID) -> tuple[str, str | None]:
        """State and code of a message."""
        (row,) = await self.rows("SELECT state, code FROM messages WHERE tenant_id = $1 AND id = $2", message_id)
        return row["state"], row["code"]

    async def rows(self, statement: str, *args: Any) -> list[Any]:
        """Rows of a statement whose `$1` is the tenant."""
        async with self.api.engine() as uow:
            found: list[Any] = await uow.raw.fetch(statement, DEFAULT_TENANT, *args)
        return found


@asynccontextmanager
async def resending(
    url: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Resending]:
    """An office on a migrated database. `options` of the sandbox; `settings` of the connection."""
    runtime_for = api_kit.runtime_for

    def with_resend(database_url: str, **more: Any) -> Any:
        runtime = runtime_for(database_url, **more)
        egress = Egress([ip_network("127.0.0.0/8")])
        return replace(
            runtime, channels={"email": EMAIL}, providers={"resend": PROVIDER}, gates=(DO_NOT_CONTACT,), egress=egress
        )

    monkeypatch.setattr(api_kit, "runtime_for", with_resend)
    told = {"webhook_secret": SECRET, "api_key": KEY, **(options or {})}
    sandbox = ResendSandbox(ResendOptions(ledger_path=folder / "emails", port=0, **told))
    base = await sandbox.start()
    async with api_of(url, data_dir=folder) as api, aiohttp.ClientSession() as http:
        try:
            await api.user("ann@example.org")
            owner = await api.signed_in("ann@example.org")
            given = {
                "api_key": KEY, "webhook_secret": SECRET, "base_url": base, "callback_base": api.url,
                "requests_per_s": 200, "answer_timeout_s": 30, **settings,
            }  # fmt: skip
            made = await owner.post("/api/v1/connections", {"name": "r", "provider": "resend", "settings": given})
            assert made.status == 201, made.text
            body = {"name": "mail", "connection_id": made.json["id"], "from_address": f"a@{DOMAIN}", "from_name": "Ann"}
            sender = (await owner.post("/api/v1/senders", body)).json
            told_url = await owner.get(f"/api/v1/connections/{made.json['id']}/callback")
            sandbox.webhook.url = told_url.json["url"]
            yield Resending(api, owner, sandbox, made.json, sender, told_url.json["url"], http)
        finally:
            await sandbox.close()
