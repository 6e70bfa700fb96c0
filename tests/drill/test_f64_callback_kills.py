"""F63-F65: the API is killed around the commit of callbacks; the provider tells again, and each counts once."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.domain.tenants import keys
from outrider.interfaces.sandbox.twilio import TwilioOptions, TwilioSandbox
from tests.kit.drill import OPERATOR, Drill
from tests.kit.processes import until

pytestmark = pytest.mark.timeout(300)
_PEOPLE = [f"+1415555{n:04}" for n in range(2000, 2020)]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def _post(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> Any:
    async with http.post(url, json=body) as answer:
        said = await answer.json()
        assert answer.status in {201, 202}, said
        return said


@pytest.mark.parametrize("point", ["callbacks.before_commit", "callbacks.committed"])
async def test_callbacks_told_to_a_killed_api_count_once(point: str, tmp_path: Path) -> None:
    port = _free_port()
    base = f"http://127.0.0.1:{port}"
    sandbox = TwilioSandbox(TwilioOptions(ledger_path=tmp_path / "texts", port=0, callback_tries=60))
    where = await sandbox.start()
    async with Drill.open(tmp_path) as drill:
        async with drill.db.uow(Role.APP, DEFAULT_TENANT) as uow:
            scopes = ["messages:write", "senders:write"]
            _, key = await keys.create(uow, OPERATOR, name="drill", role="owner", scopes=scopes)
        victim = await drill.start("api", at=f"{point}:7:kill", api_port=str(port)).ready()
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as http:
            settings = {
                "account_sid": sandbox.options.account_sid, "auth_token": sandbox.options.auth_token,
                "base_url": where, "callback_base": base,
            }  # fmt: skip
            wanted = {"name": "sms", "provider": "twilio", "settings": settings}
            connection = await _post(http, f"{base}/api/v1/connections", wanted)
            wanted = {"name": "texts", "connection_id": connection["id"], "from_address": "+14155550100"}
            sender = await _post(http, f"{base}/api/v1/senders", wanted)
            for person in _PEOPLE:
                body = {"channel": "sms", "to": person, "text": "Hello", "sender": sender["id"]}
                UUID((await _post(http, f"{base}/api/v1/messages", body))["id"])
        await drill.worker()
        await victim.killed(point)
        await drill.start("api", api_port=str(port)).ready()

        async def is_delivered() -> bool:
            count = await drill.value("SELECT count(*) FROM messages WHERE state = 'delivered'")
            return bool(count == len(_PEOPLE))

        await until(is_delivered, what="every text delivered")
        await asyncio.wait_for(sandbox.settled(), 60)
        told = await drill.value("SELECT count(*) FROM webhook_events")
        again = await drill.value("SELECT coalesce(sum(repeats), 0) FROM webhook_events")
        ends = await drill.value("SELECT count(*) FROM message_events WHERE kind = 'delivered'")
        await sandbox.close()
    assert told == len(_PEOPLE) * len(sandbox.options.statuses)
    assert (again > 0) == (point == "callbacks.committed"), (
        "what was committed was told again, the rest for the first time"
    )
    assert ends == len(_PEOPLE)
