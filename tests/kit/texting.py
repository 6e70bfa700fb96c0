"""An office that sends texts: an API with the real channel and provider, and the Twilio-shaped sandbox beside it.

API
    texting(url, folder) -> async context manager of Texting
        .owner                          a signed-in caller
        .sandbox, .connection, .sender  the account, its connection and sender as the API made them
        .callback_url                   where the sandbox reports to
        await .sent(to) -> UUID         a message that was handed over: no worker runs
        await .call(form, **more)       a callback, signed unless `signature` says otherwise
        await .applied()                what waits is applied
        await .state(message_id)        state and code
        await .rows(statement, *args)   as the engine
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import aiohttp
import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.egress import Egress
from outrider.engine.inbound.reports import apply_due
from outrider.interfaces.sandbox.twilio import TwilioOptions, TwilioSandbox
from outrider.interfaces.sandbox.twilio.callbacks import signature as signed
from outrider.plugins.channels.email import CHANNEL as EMAIL
from outrider.plugins.channels.sms import CHANNEL as SMS
from outrider.plugins.gates.do_not_contact import GATE as DO_NOT_CONTACT
from outrider.plugins.providers.twilio import PROVIDER
from tests.kit import api as api_kit
from tests.kit.api import Api, Caller, api_of

NUMBER = "+14155550100"
PHONE = "+14155552671"
_HANDED_OVER = (
    "WITH gone AS (DELETE FROM queue WHERE tenant_id = $1 AND message_id = $2 RETURNING lane_id), "
    "counted AS (INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, n) "
    "SELECT $1, lane_id, date_trunc('hour', now()), 'sent', 1 FROM gone) "
    "UPDATE messages SET state = 'sent', provider_id = $3, finished_at = now() WHERE tenant_id = $1 AND id = $2"
)


@dataclass
class Texting:
    """What the module's docstring names."""

    api: Api
    owner: Caller
    sandbox: TwilioSandbox
    connection: dict[str, Any]
    sender: dict[str, Any]
    callback_url: str
    http: aiohttp.ClientSession

    async def accepted(self, to: str = PHONE, **more: Any) -> UUID:
        """A message that waits for a worker."""
        body = {"channel": "sms", "to": to, "text": "Hello", "sender": self.sender["id"], **more}
        answer = await self.owner.post("/api/v1/messages", body)
        assert answer.status == 202, answer.text
        return UUID(answer.json["id"])

    async def sent(self, to: str = PHONE, *, sid: str | None = None) -> UUID:
        """A message that was handed over."""
        message_id = await self.accepted(to)
        async with self.api.engine() as uow:
            await uow.raw.execute(_HANDED_OVER, DEFAULT_TENANT, message_id, sid or sid_of(message_id))
        return message_id

    async def call(
        self,
        form: Mapping[str, str],
        *,
        m: UUID | None = None,
        signature: str | None = None,
        token: str = "",
        **more: Any,
    ) -> tuple[int, str]:
        """One callback; gives status and body of the answer."""
        url = more.pop("url", self.callback_url) + ("" if m is None else f"?m={m}")
        given = signed(token or self.sandbox.options.auth_token, url, form) if signature is None else signature
        data = more.pop("data", urlencode(form).encode())
        headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": given}
        headers = {name: text for name, text in {**headers, **more.pop("headers", {})}.items() if text}
        async with self.http.request(more.pop("method", "POST"), url, data=data, headers=headers) as answer:
            return answer.status, await answer.text()

    async def report(self, message_id: UUID, status: str, **more: Any) -> tuple[int, str]:
        """A status callback of a message."""
        form = self.status(more.pop("sid", sid_of(message_id)), status, **more.pop("form", {}))
        return await self.call(form, m=message_id, **more)

    def status(self, sid: str, status: str, **more: str) -> dict[str, str]:
        """What a status callback says."""
        account = self.sandbox.options.account_sid
        return {
            "AccountSid": account, "From": NUMBER, "MessageSid": sid, "MessageStatus": status, "SmsSid": sid,
            "SmsStatus": status, "To": PHONE, **more,
        }  # fmt: skip

    async def wrote(self, text: str, sender: str = PHONE, to: str = NUMBER, **more: str) -> list[str]:
        """Somebody writes; gives what they are answered."""
        status, replies = await self.sandbox.write(sender, to, text, self.callback_url, **more)
        assert status == 200
        return replies

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


def sid_of(message_id: UUID) -> str:
    """The provider's id of a message, made of ours."""
    return f"SM{message_id.hex}"


@asynccontextmanager
async def texting(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[Texting]:
    """An office on a migrated database."""
    runtime_for = api_kit.runtime_for

    def with_texts(database_url: str, **more: Any) -> Any:
        runtime = runtime_for(database_url, **more)
        egress = Egress([ip_network("127.0.0.0/8")])
        return replace(
            runtime,
            channels={"email": EMAIL, "sms": SMS},
            providers={"twilio": PROVIDER},
            gates=(DO_NOT_CONTACT,),
            egress=egress,
        )

    monkeypatch.setattr(api_kit, "runtime_for", with_texts)
    sandbox = TwilioSandbox(TwilioOptions(ledger_path=folder / "texts", port=0, auth_token="first-token"))
    base = await sandbox.start()
    async with api_of(url, data_dir=folder, **settings) as api, aiohttp.ClientSession() as http:
        try:
            await api.user("ann@example.org")
            owner = await api.signed_in("ann@example.org")
            given = {
                "account_sid": sandbox.options.account_sid, "auth_token": "first-token", "base_url": base,
                "callback_base": api.url,
            }  # fmt: skip
            made = await owner.post("/api/v1/connections", {"name": "sms", "provider": "twilio", "settings": given})
            assert made.status == 201, made.text
            body = {"name": "texts", "connection_id": made.json["id"], "from_address": NUMBER, "from_name": "Acme"}
            sender = (await owner.post("/api/v1/senders", body)).json
            told = await owner.get(f"/api/v1/connections/{made.json['id']}/callback")
            yield Texting(api, owner, sandbox, made.json, sender, told.json["url"], http)
        finally:
            await sandbox.close()
