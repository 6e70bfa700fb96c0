"""The SQL of the runbook for texts, as it stands there, asked by people with psql (role `outrider_ops`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from outrider.base.ids import DEFAULT_TENANT
from tests.kit.texting import NUMBER, PHONE, Texting, sid_of, texting

TENANT = str(DEFAULT_TENANT)


@pytest.fixture
async def office(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Texting]:
    async with texting(migrated_url, tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
async def ops(office: Texting, migrated_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(migrated_url)
    await connection.execute("SET ROLE outrider_ops")
    yield connection
    await connection.close()


async def ended(office: Texting, state: str, code: str | None) -> Any:
    """A text that ended like this."""
    message_id = await office.accepted()
    async with office.api.engine() as uow:
        await uow.raw.execute("DELETE FROM queue WHERE message_id = $1", message_id)
        await uow.raw.execute("UPDATE messages SET state = $2, code = $3 WHERE id = $1", message_id, state, code)
    return message_id


async def test_failures_are_counted_by_the_runbooks_reasons(office: Texting, ops: asyncpg.Connection) -> None:
    for state, code in (
        ("failed", "number_invalid"), ("failed", "handset_unknown"), ("failed", "provider_down"),
        ("blocked", "consent"), ("blocked", "do_not_contact"), ("expired", None), ("sent", None),
    ):  # fmt: skip
        await ended(office, state, code)
    await office.accepted()
    rows = await ops.fetch(
        "SELECT failure_reason, COUNT(*) FROM send_jobs WHERE status='failed' GROUP BY failure_reason;"
    )
    assert {row["failure_reason"]: row["count"] for row in rows} == {
        "Invalid phone": 2, "Provider error": 1, "Consent": 1, "Do not contact": 1, "Expired": 1,
    }  # fmt: skip
    waiting = await ops.fetchrow("SELECT status, failure_reason FROM send_jobs WHERE status = 'queued'")
    assert tuple(waiting) == ("queued", None)


async def test_the_delivery_rate_is_a_share_of_each_status(office: Texting, ops: asyncpg.Connection) -> None:
    for state, code in (("sent", None), ("delivered", None), ("delivered", None), ("bounced", "handset_unreachable")):
        await ended(office, state, code)
    rows = await ops.fetch(
        """
        SELECT
          status,
          COUNT(*) * 100.0 / SUM(COUNT(*)) OVER() as percentage
        FROM send_jobs
        WHERE created_at > NOW() - INTERVAL '1 hour'
        GROUP BY status;
        """
    )
    assert {row["status"]: float(row["percentage"]) for row in rows} == {
        "sent": 25.0, "delivered": 50.0, "undelivered": 25.0,
    }  # fmt: skip
    old = "SELECT count(*) FROM send_jobs WHERE created_at > NOW() + INTERVAL '1 minute'"
    assert await ops.fetchval(old) == 0, "the id says when it was accepted"


async def test_a_text_says_its_number_its_cost_and_when_it_was_delivered(
    office: Texting, ops: asyncpg.Connection
) -> None:
    message_id = await office.sent()
    async with office.api.engine() as uow:
        await uow.raw.execute(
            "INSERT INTO charges (tenant_id, message_id, token, micros, segments, day_on, month_on) "
            "VALUES ($1, $2, 1, 15800, 2, current_date, current_date)", DEFAULT_TENANT, message_id,
        )  # fmt: skip
    await office.report(message_id, "delivered")
    await office.applied()
    row = await ops.fetchrow("SELECT * FROM send_jobs WHERE id = $1", message_id)
    assert (row["status"], row["phone_e164"], row["sending_number"]) == ("delivered", PHONE, NUMBER)
    assert (row["cost_cents"], row["provider_message_id"]) == (2, sid_of(message_id))
    assert row["created_at"] <= row["delivered_at"]


async def test_who_may_not_be_contacted_is_found_by_number(office: Texting, ops: asyncpg.Connection) -> None:
    assert await office.wrote("STOP")
    row = await ops.fetchrow(f"SELECT * FROM do_not_contact WHERE phone_e164 = '{PHONE}';")
    assert (row["reason"], row["channel"], row["email"]) == ("stop", "sms", None)
    with pytest.raises(asyncpg.PostgresError, match="do_not_contact"):
        await ops.execute("DELETE FROM do_not_contact")


async def test_what_else_the_runbook_asks_can_be_asked(office: Texting, ops: asyncpg.Connection) -> None:
    made = await office.owner.post(
        "/api/v1/contacts", {"addresses": [{"channel": "sms", "address": PHONE}], "timezone": "Australia/Perth"}
    )
    assert made.status == 201, made.text
    numbers = await ops.fetch("SELECT * FROM sending_numbers;")
    assert NUMBER in {row["phone_e164"] for row in numbers}
    assert await ops.fetchval(f"SELECT timezone FROM tenants WHERE id = '{TENANT}';") == "UTC"
    assert await ops.fetchval(f"SELECT timezone FROM contacts WHERE id = '{made.json['id']}';") == "Australia/Perth"
    message_id = await office.sent()
    for _ in range(2):
        await office.report(message_id, "delivered")
    repeated = await ops.fetch("SELECT event_key, repeats FROM webhook_events WHERE repeats > 0")
    assert [row["repeats"] for row in repeated] == [1]
    await ops.fetch(f"SELECT daily_budget_cents FROM tenants WHERE id = '{TENANT}';")
    await ops.fetch(f"SELECT * FROM budgets WHERE tenant_id = '{TENANT}';")
    await ops.fetch(
        "SELECT t.name, b.daily_spent_cents / 100.0 as daily_spent, t.daily_budget_cents / 100.0 as daily_budget, "
        "b.monthly_spent_cents / 100.0 as monthly_spent, t.monthly_budget_cents / 100.0 as monthly_budget "
        "FROM tenants t JOIN budgets b ON b.tenant_id = t.id;"
    )
