"""Budgets and prices over HTTP, and the settings of gates of a campaign."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from outrider.base.ids import DEFAULT_TENANT, NIL
from outrider.domain.audit.listing import listed as audited
from outrider.plugins.channels.email import CHANNEL as EMAIL
from outrider.plugins.channels.sms import CHANNEL as SMS
from tests.kit.api import Api, api_of

BUDGET = f"/api/v1/budgets/tenant/{DEFAULT_TENANT}"


@pytest.fixture
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated"), channels={"email": EMAIL, "sms": SMS}) as running:
        await running.user("admin@example.org", "admin")
        await running.user("viewer@example.org", "viewer")
        yield running


async def test_a_budget_is_set_read_and_reset_by_admins_only(api: Api) -> None:
    admin, viewer = await api.signed_in("admin@example.org"), await api.signed_in("viewer@example.org")
    wanted = {"daily_cents": 500, "monthly_cents": None, "reason": "agreed"}
    assert (await viewer.put(BUDGET, wanted)).status == 403
    made = await admin.put(BUDGET, wanted)
    assert made.status == 200, made.text
    assert (made.json["daily_cents"], made.json["monthly_cents"]) == (500, None)
    listed = (await viewer.get("/api/v1/budgets")).json["items"]
    assert [(each["scope"], each["daily_cents"], each["daily_spent_cents"]) for each in listed] == [("tenant", 500, 0)]
    reset = await admin.post(f"{BUDGET}/reset", {"period": "both"})
    assert reset.status == 200
    assert (await viewer.get("/api/v1/budgets/events")).json["items"] == []


async def test_notes_about_budgets_are_read_page_by_page_each_once(api: Api) -> None:
    async with api.engine() as uow:
        await uow.raw.execute(
            "INSERT INTO budget_events (tenant_id, scope, scope_id, period, period_on, percent, spent_cents, "
            "                           limit_cents, at) "
            "SELECT $1, 'tenant', $1, period, day::date, percent, percent, 100, "  # several of one moment
            "       '2026-11-01T00:00:00.123456Z'::timestamptz + (percent / 90) * interval '1 hour' "
            "FROM unnest('{50,80,90,100}'::int[]) percent, unnest('{day,month}'::text[]) period, "
            "     unnest('{2026-11-01,2026-11-02}'::text[]) day",
            DEFAULT_TENANT,
        )
    viewer = await api.signed_in("viewer@example.org")
    whole = (await viewer.get("/api/v1/budgets/events?limit=100")).json
    assert (len(whole["items"]), whole["next_cursor"]) == (16, None)
    assert [each["percent"] >= 90 for each in whole["items"]] == [True] * 8 + [False] * 8, "the newest first"
    read: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await viewer.get(f"/api/v1/budgets/events?limit=3&cursor={cursor}")).json
        read += page["items"]
        cursor = page["next_cursor"]
    assert read == whole["items"]
    assert (await viewer.get("/api/v1/budgets/events?cursor=WzFd")).code == "invalid_cursor"


async def test_what_no_budget_or_price_can_be_is_refused_by_its_field(api: Api) -> None:
    admin = await api.signed_in("admin@example.org")
    wrong = await admin.put(BUDGET, {"daily_cents": -1, "monthly_cents": None})
    assert (wrong.status, wrong.json["pointer"]) == (422, "/daily_cents")
    other = await admin.put(f"/api/v1/budgets/tenant/{NIL}", {"daily_cents": 1, "monthly_cents": None})
    assert other.status == 404
    price = await admin.post("/api/v1/prices", {"channel": "sms", "country": "de", "micros": 1})
    assert (price.status, price.json["pointer"]) == (422, "/country")
    nobodys = await admin.post("/api/v1/prices", {"channel": "smss", "micros": 1})
    assert (nobodys.status, nobodys.code, nobodys.json["pointer"]) == (422, "unknown_channel", "/channel")
    assert "sms" in nobodys.json["detail"]
    global_price = {"channel": "sms", "micros": 1, "installation": True}
    assert (await admin.post("/api/v1/prices", global_price)).status == 403


async def test_prices_are_added_listed_and_taken_away(api: Api) -> None:
    admin = await api.signed_in("admin@example.org")
    assert (await admin.post("/api/v1/prices", {"channel": "sms", "country": "AU", "micros": 79_000})).status == 201
    assert (await admin.post("/api/v1/prices", {"channel": "sms", "micros": 99_000})).status == 201
    listed = (await admin.get("/api/v1/prices")).json["items"]
    assert [(each["country"], each["micros"]) for each in listed] == [("", 99_000), ("AU", 79_000)]
    assert (await admin.delete("/api/v1/prices/sms/-")).status == 204
    assert [each["country"] for each in (await admin.get("/api/v1/prices")).json["items"]] == ["AU"]


async def test_a_price_for_every_tenant_is_taken_away_by_who_may_set_one_and_a_tenants_own_stays(api: Api) -> None:
    await api.user("root@example.org", "admin", is_installation_admin=True)
    admin, root = await api.signed_in("admin@example.org"), await api.signed_in("root@example.org")
    for_all, one = {"channel": "sms", "country": "AU", "installation": True}, "/api/v1/prices/sms/AU"
    assert (await root.post("/api/v1/prices", {**for_all, "micros": 10})).status == 201
    assert (await root.post("/api/v1/prices", {"channel": "sms", "country": "AU", "micros": 20})).status == 201
    assert (await admin.delete(f"{one}?installation=true")).code == "forbidden"
    assert len((await admin.get("/api/v1/prices")).json["items"]) == 2
    assert (await root.delete(f"{one}?installation=true")).status == 204
    (left,) = (await admin.get("/api/v1/prices")).json["items"]
    assert (left["is_installation"], left["micros"]) == (False, 20)
    async with api.engine(NIL) as uow:
        (entry,) = await audited(uow, action="price.remove", limit=10)
    assert (entry.target_id, entry.actor, entry.details["was"][0][1]) == ("sms AU", "root@example.org", 10)
