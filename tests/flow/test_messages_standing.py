"""How a tenant's messages stand: of the last minutes or the last so many, with reasons, and never another tenant's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from outrider.base.ids import DEFAULT_TENANT, first_id_at
from tests.kit.api import Api, Caller, api_of

STATS = "/api/v1/messages/stats"
_ONE = """
INSERT INTO messages (tenant_id, id, lane_id, content_id, address, purpose, due_at, state, code)
SELECT $1, $2, id, $2, 'a@example.org', 'marketing', now(), $3, $4 FROM lanes WHERE tenant_id = $1
"""


@pytest.fixture(scope="module")
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated")) as running:
        yield running


@pytest.fixture(scope="module")
async def caller(api: Api) -> Caller:
    """Who may look; beside messages of several ages and of another tenant."""
    async with api.engine() as uow:
        other: UUID = await uow.raw.fetchval("INSERT INTO tenants (name) VALUES ('other') RETURNING id")
        for tenant in (DEFAULT_TENANT, other):
            await uow.raw.execute(
                "INSERT INTO lanes (tenant_id, channel, sender_id, message_class) "
                "VALUES ($1, 'email', gen_random_uuid(), 'bulk')", tenant,
            )  # fmt: skip
        at = 0

        async def add(
            minutes_ago: float, state: str, code: str | None = None, *, tenant: UUID = DEFAULT_TENANT
        ) -> UUID:
            nonlocal at
            at += 1
            minted = first_id_at(datetime.now(UTC) - timedelta(minutes=minutes_ago))
            message_id = UUID(int=minted.int + at)
            await uow.raw.execute(_ONE, tenant, message_id, state, code)
            return message_id

        for _ in range(6):
            gone = await add(5, "sent")
            await uow.raw.execute(
                "INSERT INTO message_events (tenant_id, message_id, kind) VALUES ($1, $2, 'sent')", DEFAULT_TENANT, gone
            )
        await add(5, "delivered")
        await add(5, "bounced", "mailbox_unavailable")
        await add(6, "failed", "connection_timeout")
        await add(6, "failed", "connection_timeout")
        await add(7, "blocked", "consent")
        for _ in range(4):
            await add(90, "failed", "render_failed")
        await add(5, "failed", "poison", tenant=other)
    return api.caller(await api.key("messages:read", role="viewer"))


async def asked(caller: Caller, query: str = "") -> Any:
    answer = await caller.get(f"{STATS}{query}")
    assert answer.status == 200, answer.text
    return answer.json


async def test_the_last_hour_says_shares_reasons_and_rates(caller: Caller) -> None:
    found = await asked(caller)
    assert (found["message_count"], found["is_capped"]) == (11, False)
    shares = {each["state"]: (each["count"], each["percent"]) for each in found["states"]}
    assert shares["sent"] == (6, 54.55)
    assert shares["failed"] == (2, 18.18)
    reasons = {(each["state"], each["code"]): each for each in found["reasons"]}
    assert reasons["failed", "connection_timeout"]["count"] == 2
    assert reasons["failed", "connection_timeout"]["title"] == "Connection timeout"
    assert reasons["failed", "connection_timeout"]["remedy"]
    assert "consent" in reasons["blocked", "consent"]["title"]
    assert (found["delivered_percent"], found["bounced_percent"]) == (12.5, 12.5)
    assert found["failed_percent"] == 20.0
    assert found["sent_per_minute"] == 6


async def test_a_longer_time_and_a_number_of_messages_are_other_windows(caller: Caller) -> None:
    assert (await asked(caller, "?minutes=120"))["message_count"] == 15
    last = await asked(caller, "?last=13")
    assert last["message_count"] == 13
    assert {each["code"]: each["count"] for each in last["reasons"]}["render_failed"] == 2, "the newest of them only"


async def test_a_time_without_messages_has_no_shares(caller: Caller) -> None:
    found = await asked(caller, "?minutes=1")
    assert (found["message_count"], found["since"], found["states"]) == (0, None, [])
    assert found["delivered_percent"] is None


@pytest.mark.parametrize("query", ["?minutes=5&last=5", "?minutes=0", "?last=0", "?minutes=20000"])
async def test_a_window_that_is_none_is_refused(caller: Caller, query: str) -> None:
    assert (await caller.get(f"{STATS}{query}")).status == 422
