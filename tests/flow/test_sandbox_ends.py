"""A sandbox that keeps somebody waiting for an answer ends all the same, when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest

from outrider.interfaces.sandbox.resend import ResendOptions, ResendSandbox
from outrider.interfaces.sandbox.resend.options import Rule as ResendRule
from outrider.interfaces.sandbox.twilio import TwilioOptions, TwilioSandbox
from outrider.interfaces.sandbox.twilio.options import Rule as TwilioRule
from tests.kit.processes import until

KEY = "hunter2-hunter2"
_BOUND_S = 120.0
_NEVER_S = 3600.0


class Sandbox(Protocol):
    """What both have."""

    request_count: int
    ledger: Any

    async def close(self) -> None: ...


Asked = tuple[Sandbox, Callable[[aiohttp.ClientSession], Awaitable[aiohttp.ClientResponse]]]


async def twilio(ledger: Path) -> Asked:
    sandbox = TwilioSandbox(TwilioOptions(ledger_path=ledger, port=0, auth_token=KEY, checks_numbers=False))
    url = await sandbox.start()
    sandbox.rules = [TwilioRule(hang_s=_NEVER_S)]
    account = sandbox.options.account_sid
    form = {"To": "+14155552671", "From": "+14155550100", "Body": "Hello"}
    path = f"{url}/2010-04-01/Accounts/{account}/Messages.json"
    headers = {"Authorization": aiohttp.encode_basic_auth(account, KEY)}
    return sandbox, lambda client: client.post(path, data=form, headers=headers)


async def resend(ledger: Path) -> Asked:
    sandbox = ResendSandbox(ResendOptions(ledger_path=ledger, port=0, api_key=KEY))
    url = await sandbox.start()
    sandbox.rules = [ResendRule(hang_s=_NEVER_S)]
    email = {"from": "news@example.org", "to": "ann@example.com", "subject": "Hello", "text": "Hello"}
    headers = {"Authorization": f"Bearer {KEY}"}
    return sandbox, lambda client: client.post(f"{url}/emails", json=email, headers=headers)


@pytest.mark.parametrize("make", [twilio, resend])
async def test_who_is_kept_waiting_is_hung_up_on_when_the_server_ends(
    make: Callable[[Path], Awaitable[Asked]], tmp_path: Path
) -> None:
    sandbox, ask = await make(tmp_path / "ledger")
    async with aiohttp.ClientSession() as client:
        asking = asyncio.ensure_future(ask(client))
        await until(lambda: len(sandbox.ledger.entries) == 1, what="it has taken the message")
        assert not asking.done(), "it is kept waiting"
        async with asyncio.timeout(_BOUND_S):
            await sandbox.close()
            with pytest.raises(aiohttp.ClientConnectionError):
                await asking
