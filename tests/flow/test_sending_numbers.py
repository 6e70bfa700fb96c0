"""Numbers of senders: pools from which everybody keeps hearing the same one, and addresses as a country types them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from outrider_client import AsyncOutrider

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.domain.senders import numbers
from outrider.plugins.channels.email import CHANNEL as EMAIL
from outrider.plugins.channels.sms import CHANNEL as SMS
from tests.kit import api as api_kit
from tests.kit.api import Api, Caller, api_of
from tests.kit.dispatch import GlassProvider

PEOPLE = [f"+1415555{n:04}" for n in range(2000, 2040)]


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    runtime_for = api_kit.runtime_for

    def with_texts(url: str, **settings: Any) -> Any:
        provider = cast("Any", GlassProvider())
        provider.channel = "sms"
        return replace(
            runtime_for(url, **settings), channels={"email": EMAIL, "sms": SMS}, providers={"glass": provider}
        )

    monkeypatch.setattr(api_kit, "runtime_for", with_texts)
    async with api_of(migrated_url, data_dir=tmp_path) as made:
        yield made


@pytest.fixture
async def owner(api: Api) -> Caller:
    await api.user("ann@example.org")
    return await api.signed_in("ann@example.org")


async def _sender(owner: Caller, **more: Any) -> Any:
    made = await owner.post("/api/v1/connections", {"name": "texts", "provider": "glass"})
    body = {"name": "texts", "connection_id": made.json["id"], "from_address": "+1 415 555 0100", **more}
    return (await owner.post("/api/v1/senders", body)).json


async def test_a_sender_of_texts_has_their_defaults_and_refuses_what_means_nothing(owner: Caller) -> None:
    made = await _sender(owner)
    assert made["from_address"] == "+14155550100"
    assert made["opt_out_line"] == "Reply STOP to opt out"
    assert made["transactional_guarantee"] == "at_most_once"
    path = f"/api/v1/senders/{made['id']}"
    refused = await owner.patch(path, {"reply_to": "a@example.org"})
    assert (refused.status, refused.json["errors"][0]["code"]) == (422, "not_for_channel")
    changed = await owner.patch(path, {"opt_out_line": "", "from_address": "ACME"})
    assert (changed.json["opt_out_line"], changed.json["from_address"]) == ("", "ACME")
    assert len(changed.json["warnings"]) == 2


async def test_numbers_are_added_rested_and_removed_and_the_runbooks_view_shows_them(api: Api, owner: Caller) -> None:
    sender = await _sender(owner)
    await owner.patch(f"/api/v1/tenants/{DEFAULT_TENANT}", {"settings": {"default_region": "us"}})
    body = {"number": "(415) 555-0111", "sender_id": sender["id"]}
    made = await owner.post("/api/v1/numbers", body)
    assert (made.status, made.json["number"], made.json["is_active"]) == (201, "+14155550111", True)
    again = await owner.post("/api/v1/numbers", body)
    assert (again.status, again.json["code"]) == (409, "number_taken")
    short = await owner.post("/api/v1/numbers", {"number": "12345", "sender_id": sender["id"]})
    assert short.json["number"] == "12345"
    listed = await owner.get(f"/api/v1/numbers?sender_id={sender['id']}")
    assert [each["number"] for each in listed.json["items"]] == ["+14155550111", "12345"]
    rested = await owner.patch(f"/api/v1/numbers/{made.json['id']}", {"is_active": False})
    assert rested.json["is_active"] is False
    async with api.runtime.db.uow(Role.OPS) as uow:
        rows = await uow.raw.fetch("SELECT phone_e164, is_active, sender FROM sending_numbers ORDER BY 1")
    assert [tuple(row) for row in rows] == [
        ("+14155550100", True, "texts"),
        ("+14155550111", False, "texts"),
        ("12345", True, "texts"),
    ]
    gone = await owner.delete(f"/api/v1/numbers/{made.json['id']}")
    assert gone.status == 204
    assert (await owner.get(f"/api/v1/numbers/{made.json['id']}")).status in {404, 405}
    assert len((await owner.get("/api/v1/numbers")).json["items"]) == 1


async def _assigned(api: Api, sender_id: UUID, pool: list[str], people: list[str]) -> dict[str, str]:
    async with api.engine() as uow:
        return await numbers.assign(uow.raw, DEFAULT_TENANT, sender_id, pool, people)


async def test_everybody_keeps_their_number_while_it_is_in_use_and_the_pool_is_shared_out(
    api: Api, owner: Caller
) -> None:
    sender_id = UUID((await _sender(owner))["id"])
    pool = ["+14155550111", "+14155550112", "+14155550113"]
    first = await _assigned(api, sender_id, pool, PEOPLE)
    assert set(first.values()) == set(pool)
    grown = await _assigned(api, sender_id, [*pool, "+14155550114"], PEOPLE)
    assert grown == first
    shrunk = await _assigned(api, sender_id, pool[1:], PEOPLE)
    assert {who: number for who, number in shrunk.items() if first[who] != pool[0]} == {
        who: number for who, number in first.items() if number != pool[0]
    }
    assert set(shrunk.values()) == set(pool[1:])
    assert await _assigned(api, sender_id, pool, PEOPLE) == shrunk, "who moved stays where they are now"
    assert await _assigned(api, sender_id, [], PEOPLE) == {}
    assert set((await _assigned(api, sender_id, pool[:1], PEOPLE)).values()) == {pool[0]}


async def test_numbers_are_read_as_the_tenants_country_types_them(api: Api, owner: Caller) -> None:
    body = {"name": "Ann", "addresses": [{"channel": "sms", "address": "0412 345 678"}]}
    refused = await owner.post("/api/v1/contacts", body)
    assert (refused.status, refused.json["pointer"]) == (422, "/addresses/0/address")
    assert "default_region" in refused.json["detail"]
    wrong = await owner.patch(f"/api/v1/tenants/{DEFAULT_TENANT}", {"settings": {"default_region": "ZZ"}})
    assert (wrong.status, wrong.json["code"]) == (422, "unknown_region")
    await owner.patch(f"/api/v1/tenants/{DEFAULT_TENANT}", {"settings": {"default_region": "AU"}})
    made = await owner.post("/api/v1/contacts", body)
    assert made.json["addresses"] == [{"channel": "sms", "address": "+61412345678"}]
    found = await owner.post("/api/v1/contacts/lookup", {"channel": "sms", "address": "0412345678"})
    assert found.json["contact"]["id"] == made.json["id"]
    await owner.post("/api/v1/suppressions", {"channel": "sms", "address": "0412-345-678"})
    listed = await owner.get("/api/v1/suppressions?channel=sms")
    assert [each["address"] for each in listed.json["items"]] == ["+61412345678"]
    sender = await _sender(owner)
    sent = await owner.post(
        "/api/v1/messages", {"channel": "sms", "to": "0412345678", "text": "x", "sender": sender["id"]}
    )
    assert sent.status == 202
    found = await owner.get("/api/v1/messages?channel=sms&to=0412345678")
    assert [each["to"] for each in found.json["items"]] == ["+61412345678"]
    own = await owner.post(
        "/api/v1/messages", {"channel": "sms", "to": "not a number", "text": "x", "sender": sender["id"]}
    )
    assert (own.status, own.json["errors"][0]["pointer"]) == (422, "/to")


async def test_a_file_of_numbers_is_read_with_the_tenants_country_or_the_one_named(api: Api, owner: Caller) -> None:
    await owner.patch(f"/api/v1/tenants/{DEFAULT_TENANT}", {"settings": {"default_region": "AU"}})
    csv = b"phone,name\n0412345678,Ann\n+14155552671,Bob\n555,Cid\n"
    headers = {"Content-Type": "text/csv"}
    looked = await owner.ask("POST", "/api/v1/imports/examine?channel=sms", data=csv, headers=headers)
    assert looked.status == 200, looked.text
    assert [(each["line"], each["field"]) for each in looked.json["problems"]] == [(4, "address")]
    american = b"phone,name\n4155552671,Bob\n"
    path = "/api/v1/imports/examine?channel=sms"
    assert len((await owner.ask("POST", path, data=american, headers=headers)).json["problems"]) == 1
    assert (await owner.ask("POST", f"{path}&region=US", data=american, headers=headers)).json["problems"] == []


async def test_a_text_is_measured_before_it_is_sent(owner: Caller) -> None:
    counted = await owner.post("/api/v1/messages/measure", {"text": "Hello \u201cAnn\u201d " + "x" * 60})
    said = counted.json
    price = said.pop("price")
    assert said == {
        "encoding": "UCS-2", "segments": 2, "characters": 72, "units": 72, "units_left": 62, "odd": "\u201c\u201d",
    }  # fmt: skip
    assert (price["parts"], price["total_micros"], price["countries"]) == (2, None, [])
    email = await owner.post("/api/v1/messages/measure", {"text": "x", "channel": "email"})
    assert (email.status, email.json["code"]) == (422, "not_for_channel")
    template = await owner.post(
        "/api/v1/templates", {"name": "sale", "channel": "sms", "subject": "", "text": "Hello {{ name }}, sale!"}
    )
    assert template.status == 201, template.text
    path = f"/api/v1/templates/{template.json['id']}/preview"
    shown = await owner.post(path, {"variables": {"name": "Ann"}, "is_bulk": True})
    assert shown.json["text"] == "Hello Ann, sale!\nReply STOP to opt out"
    assert (shown.json["measure"]["segments"], shown.json["measure"]["encoding"]) == (1, "GSM-7")


async def test_a_text_has_its_price_before_it_is_sent(api: Api, owner: Caller) -> None:
    async def price(text: str, **to: str) -> Any:
        answer = await owner.post("/api/v1/messages/measure", {"text": text, **to})
        assert answer.status == 200, answer.text
        return answer.json["price"]

    nothing = await price("Hi", to="+61412345678")
    assert nothing == {
        "currency": "EUR", "parts": 1, "country": "AU", "per_part_micros": None, "total_micros": None,
        "note": "no price is known for sms to AU (outrider budget set-price): it is sent, and not counted",
        "countries": [],
    }  # fmt: skip
    budget = {"daily_cents": 1000, "monthly_cents": None}
    assert (await owner.put(f"/api/v1/budgets/tenant/{DEFAULT_TENANT}", budget)).status == 200
    assert "it waits until there is one" in (await price("Hi"))["note"]
    for more in ({"country": "AU", "micros": 79_000}, {"micros": 100_000}, {"country": "NZ", "micros": 90_000}):
        assert (await owner.post("/api/v1/prices", {"channel": "sms", **more})).status == 201
    long = "x" * 161
    found = await price(long, to="+61 412 345 678")
    assert (found["country"], found["parts"], found["per_part_micros"], found["total_micros"], found["note"]) == (
        "AU", 2, 79_000, 158_000, "",
    )  # fmt: skip
    assert (await price(long, to="+14155552671"))["total_micros"] == 200_000, "every country without its own"
    anybody = await price(long)
    assert (anybody["country"], anybody["total_micros"]) == (None, 200_000)
    assert anybody["countries"] == [
        {"country": "AU", "per_part_micros": 79_000, "total_micros": 158_000},
        {"country": "NZ", "per_part_micros": 90_000, "total_micros": 180_000},
    ]
    wrong = await owner.post("/api/v1/messages/measure", {"text": "x", "to": "nobody"})
    assert (wrong.status, wrong.json["code"], wrong.json["pointer"]) == (422, "invalid_address", "/to")
    key = await api.key("messages:read")
    async with AsyncOutrider(api.url, key) as client:
        asked = await client.measure(long, to="+61412345678")
    assert (asked.segments, asked.price.total_micros, asked.price.country) == (2, 158_000, "AU")


async def test_a_preview_says_what_its_message_costs(owner: Caller) -> None:
    await owner.post("/api/v1/prices", {"channel": "sms", "country": "AU", "micros": 79_000})
    template = await owner.post("/api/v1/templates", {"name": "sale", "channel": "sms", "text": "Hello, sale!"})
    path = f"/api/v1/templates/{template.json['id']}/preview"
    sample = (await owner.post(path, {})).json["price"]
    assert (sample["country"], sample["total_micros"]) == (None, None), "the sample's own number tells nothing"
    assert [each["country"] for each in sample["countries"]] == ["AU"]
    assert "to every other country" in sample["note"]
    person = {"name": "Ann", "addresses": [{"channel": "sms", "address": "+61412345678"}]}
    contact = (await owner.post("/api/v1/contacts", person)).json
    theirs = (await owner.post(path, {"contact_id": contact["id"]})).json["price"]
    assert (theirs["country"], theirs["parts"], theirs["total_micros"]) == ("AU", 1, 79_000)
    letter = await owner.post("/api/v1/templates", {"name": "letter", "subject": "Hi", "text": "Hello."})
    await owner.post("/api/v1/prices", {"channel": "email", "micros": 400})
    shown = (await owner.post(f"/api/v1/templates/{letter.json['id']}/preview", {})).json
    assert (shown["measure"], shown["price"]["total_micros"]) == (None, 400)


async def test_a_campaign_of_texts_is_looked_at_as_texts(api: Api, owner: Caller) -> None:
    sender = await _sender(owner)
    template = (
        await owner.post(
            "/api/v1/templates", {"name": "sale", "channel": "sms", "subject": "", "text": "Hi {{ phone }}"}
        )
    ).json
    person = {"name": "Ann", "addresses": [{"channel": "sms", "address": "+61412345678"}]}
    contact = (await owner.post("/api/v1/contacts", person)).json
    said = {"channel": "sms", "purpose": "marketing", "status": "granted", "source": "test"}
    await owner.post(f"/api/v1/contacts/{contact['id']}/consents", said)
    people = (await owner.post("/api/v1/lists", {"name": "all"})).json
    await owner.post(f"/api/v1/lists/{people['id']}/members", {"contact_ids": [contact["id"]]})
    wanted = {"name": "sale", "sender_id": sender["id"], "template_id": template["id"], "list_id": people["id"]}
    campaign = await owner.post("/api/v1/campaigns", wanted)
    assert campaign.status == 201, campaign.text
    assert campaign.json["channel"] == "sms"
    found = (await owner.post(f"/api/v1/campaigns/{campaign.json['id']}/preflight", {})).json
    assert found["will_go_count"] == 1
    assert "no_postal_address" not in [each["code"] for each in found["findings"]]
