"""The examination of an account for `doctor`: reachable, signed in, active, and whether answers lead here.

Sends nothing, changes nothing and shows no credentials.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from outrider.contracts.provider import Egress, Stage
from outrider.data.http_account import object_in
from outrider.data.http_out import HttpOut, Reply, Trouble
from outrider.plugins.providers.twilio.settings import Account

_OK, _UNKNOWN = 200, 404
_PAGE: Final = 1000
_MOST_NAMED: Final = 5
_LONGEST_NUMBER: Final = 20
_DASHBOARD: Final = "more at https://console.twilio.com"


async def examine(account: Account, egress: Egress) -> AsyncIterator[Stage]:
    """Give connection, credentials, account and callbacks as they are passed; after the first that fails, nothing."""
    http = _opened(account, egress, account.base_url)
    try:
        async for stage in _stages(account, egress, http):
            yield stage
    finally:
        await http.close()


def _opened(account: Account, egress: Egress, base_url: str) -> HttpOut:
    """Requests in the account's name to the API, or to the host of its messaging services."""
    return HttpOut(
        base_url,
        egress,
        headers={"Authorization": account.authorization, "Accept": "application/json"},
        connect_timeout_s=account.connect_timeout_s,
        answer_timeout_s=account.answer_timeout_s,
    )


async def _stages(account: Account, egress: Egress, http: HttpOut) -> AsyncIterator[Stage]:
    reply = await http.ask("GET", f"{account.path}.json")
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
    yield Stage("account", is_ok=status == "active", detail=f"the account is {status}; {_DASHBOARD}")
    if status == "active":
        told = "asked for" if account.callback_url else "not asked for"
        yield Stage("callbacks", is_ok=True, detail=f"status callbacks are {told}")
        if account.callback_url:
            yield await _inbound(account, egress, http)


async def _inbound(account: Account, egress: Egress, http: HttpOut) -> Stage:
    """Whether what people answer comes here: as the messaging service says, else as the account's numbers do."""
    if account.messaging_service_sid:
        where = _opened(account, egress, account.base_url.replace("://api.", "://messaging."))
        try:
            service = await _asked(where, f"/v1/Services/{account.messaging_service_sid}")
        finally:
            await where.close()
        if service is None:
            return Stage("inbound", is_ok=False, detail="the messaging service cannot be looked at: check its sid")
        if not service.get("use_inbound_webhook_on_number"):
            return _compared(account, {"the messaging service": service.get("inbound_request_url")})
    listed = await _asked(http, f"{account.path}/IncomingPhoneNumbers.json?PageSize={_PAGE}")
    numbers = listed.get("incoming_phone_numbers") if listed is not None else None
    if not isinstance(numbers, list):
        return Stage("inbound", is_ok=False, detail="the account's numbers cannot be looked at")
    if not numbers:
        return Stage("inbound", is_ok=True, detail="the account has no numbers: nobody can answer")
    found = [each for each in numbers if isinstance(each, dict)]
    return _compared(account, {str(each.get("phone_number"))[:_LONGEST_NUMBER]: each.get("sms_url") for each in found})


def _compared(account: Account, leads: Mapping[str, object]) -> Stage:
    """Which of them lead here; those that lead elsewhere are named by their host alone."""
    elsewhere = {name: url for name, url in leads.items() if url != account.callback_url}
    count = len(leads) - len(elsewhere)
    said = [f"{name} to {_host(url)}" for name, url in list(elsewhere.items())[:_MOST_NAMED]]
    rest = f"; elsewhere: {', '.join(said)}" if said else ""
    if count:
        return Stage("inbound", is_ok=True, detail=f"{count} of {len(leads)} lead answers here{rest}")
    detail = f"answers, STOP among them, do not come here{rest}; set it to {account.callback_url}"
    return Stage("inbound", is_ok=False, detail=detail)


def _host(url: object) -> str:
    try:
        return (urlsplit(url).hostname if isinstance(url, str) else None) or "nowhere"
    except ValueError:
        return "nowhere"


async def _asked(http: HttpOut, path: str) -> dict[str, Any] | None:
    reply = await http.ask("GET", path)
    return object_in(reply.body) if isinstance(reply, Reply) and reply.status == _OK else None


def _status(body: bytes) -> str:
    said = object_in(body)
    if said is None:
        return "not readable"
    status = said.get("status")
    return status if isinstance(status, str) and status.isalpha() else "in an unknown state"
