"""What a campaign costs, said before it is launched: by the prices, countries and parts that its claims go by."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outrider.base.ids import DEFAULT_TENANT
from tests.kit.texting import Texting, texting

AUSTRALIANS = [f"+6141234{5000 + n}" for n in range(3)]
OTHERS = ["+6421234567", "+14155552671"]


@pytest.fixture
async def office(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Texting]:
    async with texting(migrated_url, tmp_path, monkeypatch, public_url="https://mail.example.org") as made:
        yield made


async def made(office: Texting, path: str, body: dict[str, Any]) -> Any:
    answer = await office.owner.post(f"/api/v1/{path}", body)
    assert answer.status in {200, 201}, answer.text
    return answer.json


async def campaign(office: Texting, text: str, *, numbers: list[str]) -> str:
    """A draft to a list of people with these numbers, who have all consented."""
    ids = []
    for number in numbers:
        person = await made(office, "contacts", {"addresses": [{"channel": "sms", "address": number}]})
        ids.append(person["id"])
        given = {"channel": "sms", "purpose": "marketing", "status": "granted", "source": "test"}
        await made(office, f"contacts/{person['id']}/consents", given)
    target = await made(office, "lists", {"name": "phones"})
    await made(office, f"lists/{target['id']}/members", {"contact_ids": ids})
    template = await made(office, "templates", {"name": "sale", "channel": "sms", "text": text})
    body = {
        "name": "texts", "sender_id": office.sender["id"], "template_id": template["id"], "list_id": target["id"],
    }  # fmt: skip
    draft: str = (await made(office, "campaigns", body))["id"]
    return draft


async def preflight(office: Texting, campaign_id: str) -> Any:
    return await made(office, f"campaigns/{campaign_id}/preflight", {})


def notes(found: Any) -> dict[str, str]:
    return {each["code"]: each["message"] for each in found["findings"]}


async def test_texts_cost_what_their_parts_do_in_the_country_of_each_number(office: Texting) -> None:
    await made(office, "prices", {"channel": "sms", "country": "AU", "micros": 79_000})
    long = "{{ name }} " + "x" * 150  # with the line that says how to opt out: two parts
    draft = await campaign(office, long, numbers=[*AUSTRALIANS, *OTHERS])
    found = await preflight(office, draft)
    cost = found["cost"]
    assert (found["will_go_count"], cost["parts"], cost["is_estimate"]) == (5, 2, True)
    assert (cost["total_micros"], cost["unpriced_count"]) == (3 * 2 * 79_000, 2)
    assert {each["country"]: each["count"] for each in cost["countries"]} == {"AU": 3, "NZ": 1, "US": 1}
    assert "NZ, US" in notes(found)["unpriced"]
    await made(office, "prices", {"channel": "sms", "micros": 100_000})
    await made(office, "suppressions", {"channel": "sms", "address": AUSTRALIANS[0]})
    found = await preflight(office, draft)
    assert found["cost"]["total_micros"] == 2 * 2 * 79_000 + 2 * 2 * 100_000
    assert "unpriced" not in notes(found)


async def test_of_variants_the_longest_is_what_it_may_cost(office: Texting) -> None:
    await made(office, "prices", {"channel": "sms", "micros": 50_000})
    draft = await campaign(office, "Sale today.", numbers=AUSTRALIANS)
    long = await made(office, "templates", {"name": "long", "channel": "sms", "text": "x" * 400})
    parts = (await preflight(office, draft))["cost"]["parts"]
    two = [{"name": "short", "share_percent": 50}, {"name": "long", "share_percent": 50, "template_id": long["id"]}]
    wanted = {"ab_test": {"variants": two, "decision": "by_hand"}}
    answer = await office.owner.put(f"/api/v1/campaigns/{draft}/delivery", wanted)
    assert answer.status == 200, answer.text
    assert (parts, (await preflight(office, draft))["cost"]["parts"]) == (1, 3)


async def test_a_budget_that_will_not_do_is_said_before_the_launch(office: Texting) -> None:
    await made(office, "prices", {"channel": "sms", "micros": 50_000})
    draft = await campaign(office, "Sale today.", numbers=AUSTRALIANS)
    assert "budget_short" not in notes(await preflight(office, draft))
    answer = await office.owner.put(f"/api/v1/budgets/campaign/{draft}", {"daily_cents": 14, "monthly_cents": None})
    assert answer.status == 200, answer.text
    answer = await office.owner.put(
        f"/api/v1/budgets/tenant/{DEFAULT_TENANT}", {"daily_cents": 15, "monthly_cents": 15}
    )
    assert answer.status == 200, answer.text
    found = await preflight(office, draft)
    assert not [each for each in found["findings"] if each["is_blocking"] and each["code"] == "budget_short"]
    said = [each["message"] for each in found["findings"] if each["code"] == "budget_short"]
    assert len(said) == 1, "the tenant's budget is just enough"
    assert "the daily budget of the campaign has 0.14" in said[0]
    assert "0.15" in said[0]


async def test_a_price_nobody_knows_is_said_and_what_a_budget_does_then(office: Texting) -> None:
    draft = await campaign(office, "Sale today.", numbers=AUSTRALIANS)
    found = await preflight(office, draft)
    assert found["cost"] is None
    assert "set-price" in notes(found)["no_price"]
    await office.owner.put(f"/api/v1/budgets/tenant/{DEFAULT_TENANT}", {"daily_cents": 15, "monthly_cents": None})
    assert "wait until there is one" in notes(await preflight(office, draft))["no_price"]


async def test_a_segment_is_told_apart_by_country_as_well(office: Texting) -> None:
    await made(office, "prices", {"channel": "sms", "country": "AU", "micros": 79_000})
    draft = await campaign(office, "Sale today.", numbers=[*AUSTRALIANS, *OTHERS])
    rules = {"kind": "address", "channel": "sms", "contains": "+61"}
    answer = await office.owner.post("/api/v1/segments", {"name": "down under", "rules": rules})
    assert answer.status == 201, answer.text
    changed = await office.owner.patch(f"/api/v1/campaigns/{draft}", {"segment_id": answer.json["id"]})
    assert changed.status == 200, changed.text
    found = await preflight(office, draft)
    assert found["cost"]["total_micros"] == 3 * 79_000
    assert found["cost"]["countries"] == [
        {"country": "AU", "count": 3, "per_part_micros": 79_000, "total_micros": 237_000}
    ]
