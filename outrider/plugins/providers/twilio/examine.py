"""The examination of an account for `doctor`: reachable, signed in, active. Sends nothing and shows no credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson

from outrider.contracts.provider import Egress, Stage
from outrider.data.http_out import HttpOut, Trouble
from outrider.plugins.providers.twilio.settings import Account

_OK, _UNKNOWN = 200, 404


async def examine(account: Account, egress: Egress) -> AsyncIterator[Stage]:
    """Give connection, credentials, account and callbacks as they are passed; after the first that fails, nothing."""
    http = HttpOut(
        account.base_url,
        egress,
        headers={"Authorization": account.authorization, "Accept": "application/json"},
        connect_timeout_s=account.connect_timeout_s,
        answer_timeout_s=account.answer_timeout_s,
    )
    try:
        reply = await http.ask("GET", f"{account.path}.json")
    finally:
        await http.close()
    if isinstance(reply, Trouble):
        yield Stage("connection", is_ok=False, detail=reply.detail)
        return
    yield Stage("connection", is_ok=True, detail=f"{account.base_url} answered")
    if reply.status in (401, 403):
        yield Stage("credentials", is_ok=False, detail="refused: check account_sid and the token or key")
        return
    yield Stage("credentials", is_ok=True, detail="accepted")
    if reply.status != _OK:
        detail = "there is no such account" if reply.status == _UNKNOWN else f"the API answered {reply.status}"
        yield Stage("account", is_ok=False, detail=detail)
        return
    status = _status(reply.body)
    yield Stage("account", is_ok=status == "active", detail=f"the account is {status}")
    if status == "active":
        told = "asked for" if account.callback_url else "not asked for"
        yield Stage("callbacks", is_ok=True, detail=f"status callbacks are {told}")


def _status(body: bytes) -> str:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "not readable"
    status = said.get("status") if isinstance(said, dict) else None
    return status if isinstance(status, str) and status.isalpha() else "in an unknown state"
