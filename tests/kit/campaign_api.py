"""Campaigns over HTTP, with the real channel and provider.

API
    campaign_api(url, folder) -> async context manager of Api    as api_of; links lead to https://news.example.org
    made(answer, status=…)                                       the body of an answer that has to have this status
    draft(api, owner) -> path                                    a draft to PEOPLE people with consent
    turn(api)                                                    a round of what a worker does beside sending
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.engine.fanout import expand
from outrider.plugins.channels.email import CHANNEL
from outrider.plugins.providers.smtp import PROVIDER
from tests.kit import api as api_kit
from tests.kit.api import Answer, Api, Caller, api_of

PEOPLE = 40
_PEOPLE = (
    "WITH people AS (INSERT INTO contacts (tenant_id, name, external_id) SELECT $1, 'P' || n, 'x' || n "
    "FROM generate_series(1, $3::int) n RETURNING id, external_id), members AS (INSERT INTO list_members "
    "(tenant_id, list_id, contact_id) SELECT $1, $2, id FROM people), agreed AS (INSERT INTO consents "
    "(tenant_id, contact_id, channel, purpose, status, source) SELECT $1, id, 'email', 'marketing', 'granted', 'test' "
    "FROM people) INSERT INTO addresses (tenant_id, channel, address, contact_id) "
    "SELECT $1, 'email', external_id || '@example.org', id FROM people"
)


@asynccontextmanager
async def campaign_api(url: str, folder: Path) -> AsyncIterator[Api]:
    """A running API whose channel and provider are the real ones."""
    runtime_for = api_kit.runtime_for

    def with_real_plugins(url: str, **settings: Any) -> Any:
        return replace(runtime_for(url, **settings), channels={"email": CHANNEL}, providers={"smtp": PROVIDER})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api_kit, "runtime_for", with_real_plugins)
        async with api_of(url, data_dir=folder, public_url="https://news.example.org") as running:
            yield running


def made(answer: Answer, status: int = 200) -> Any:
    """The body of an answer that has to have this status."""
    assert answer.status == status, answer.text
    return answer.json


async def draft(api: Api, owner: Caller) -> str:
    """A draft, with everything it needs; gives its path."""
    settings = {"host": "127.0.0.1", "port": 1, "tls": "off"}
    relay = {"name": "relay", "provider": "smtp", "settings": settings}
    connection = made(await owner.post("/api/v1/connections", relay), 201)
    sender = {"name": "news", "connection_id": connection["id"], "from_address": "news@example.org"}
    template = {"name": "t", "subject": "Hi", "text": "x"}
    ids = {
        "sender_id": made(await owner.post("/api/v1/senders", sender), 201)["id"],
        "template_id": made(await owner.post("/api/v1/templates", template), 201)["id"],
        "list_id": made(await owner.post("/api/v1/lists", {"name": "News"}), 201)["id"],
    }
    await owner.post("/api/v1/suppressions", {"address": "gone@example.org"})
    async with api.engine() as uow:
        await uow.raw.execute(_PEOPLE, DEFAULT_TENANT, ids["list_id"], PEOPLE)
    campaign = made(await owner.post("/api/v1/campaigns", {"name": "November", **ids}), 201)
    return f"/api/v1/campaigns/{campaign['id']}"


async def turn(api: Api, *more: str) -> None:
    """One round of what a worker does beside sending, and of the loops named."""
    for loop in expand.loops(api.runtime):
        if loop.name in {"settle_audiences", "look_at_waves", "fan_out", *more}:
            while await loop.step():
                pass
