"""The examination of one for `doctor`: reachable, key accepted, domains verified. Sends nothing; shows no key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import quote

from outrider.contracts.provider import Egress, Stage
from outrider.data.http_account import object_in
from outrider.data.http_out import HttpOut, Reply, Trouble
from outrider.plugins.providers.resend.settings import Account

_OK: Final = 200
_REFUSED: Final = frozenset({401, 403})
_ONLY_SENDS: Final = "restricted_api_key"
_MOST_LOOKED_AT: Final = 5


async def examine(account: Account, egress: Egress) -> AsyncIterator[Stage]:
    """Give connection, key, domains and events as they are passed; after the first that fails, nothing."""
    http = account.http(egress)
    try:
        reply = await http.ask("GET", "/domains")
        if isinstance(reply, Trouble):
            yield Stage("connection", is_ok=False, detail=reply.detail)
            return
        yield Stage("connection", is_ok=True, detail=f"{account.base_url} answered")
        said = object_in(reply.body) or {}
        if reply.status in _REFUSED and said.get("name") != _ONLY_SENDS:
            yield Stage("key", is_ok=False, detail="refused: check api_key")
            return
        yield Stage("key", is_ok=True, detail="accepted")
        stage = await _domains(account, http, reply, said)
        yield stage
    finally:
        await http.close()
    if stage.is_ok:
        told = "verified and taken" if account.is_reported else "not taken: webhook_secret is not set"
        yield Stage("events", is_ok=True, detail=f"events are {told}")


async def _domains(account: Account, http: HttpOut, reply: Reply, said: dict[str, Any]) -> Stage:
    """Whether the domains that must be are verified; what is missing is named by its records."""
    if said.get("name") == _ONLY_SENDS and reply.status in _REFUSED:
        return Stage("domains", is_ok=True, detail="not looked at: the key may only send")
    listed = said.get("data")
    if reply.status != _OK or not isinstance(listed, list):
        return Stage("domains", is_ok=False, detail=f"the API answered {reply.status}")
    known = {str(each.get("name")).lower(): each for each in listed if isinstance(each, dict)}
    verified = [name for name, each in known.items() if each.get("status") == "verified"]
    wanted = account.domains or (() if verified else tuple(known))
    missing = [name for name in wanted if name not in verified]
    if not known or missing:
        told = [await _told(account, http, name, known.get(name)) for name in missing[:_MOST_LOOKED_AT]]
        return Stage("domains", is_ok=False, detail="; ".join(told) or "the account has no domain")
    others = [name for name in known if name not in verified]
    also = f"; not verified: {', '.join(map(_shown, others[:_MOST_LOOKED_AT]))}" if others else ""
    return Stage("domains", is_ok=True, detail=f"verified: {', '.join(map(_shown, verified[:_MOST_LOOKED_AT]))}{also}")


async def _told(account: Account, http: HttpOut, name: str, domain: dict[str, Any] | None) -> str:
    """What a domain lacks."""
    if domain is None:
        return f"{_shown(name)} is not a domain of the account"
    said = f"{_shown(name)} is {_shown(domain.get('status'))}"
    await asyncio.sleep(1 / account.requests_per_s)
    reply = await http.ask("GET", f"/domains/{quote(str(domain.get('id')), safe='')}")
    records = (object_in(reply.body) or {}).get("records") if isinstance(reply, Reply) else None
    lacking = [
        "{} ({} {}): {}".format(*(_shown(each.get(key)) for key in ("record", "type", "name", "status")))
        for each in (records if isinstance(records, list) else [])
        if isinstance(each, dict) and each.get("status") != "verified"
    ]
    return f"{said}: {', '.join(lacking[:10])}" if lacking else said


def _shown(text: object) -> str:
    plain = str(text)[:100]
    return plain if plain.isprintable() else "?"
