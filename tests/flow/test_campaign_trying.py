"""A campaign before it is sent, over HTTP: seen and sent to one's own people, one variant by its name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.api import Api, Caller
from tests.kit.campaign_api import campaign_api, draft, made, turn

ME = "ann@example.org"
COMPARED = {
    "ab_test": {
        "variants": [
            {"name": "plain", "share_percent": 60},
            {"name": "voucher", "share_percent": 40, "subject": "A voucher, {{ name }}"},
        ],
        "audience_percent": 50,
        "decision": "by_hand",
    }
}


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with campaign_api(migrated_url, tmp_path) as running:
        await running.user(ME)
        yield running


@pytest.fixture
async def owner(api: Api) -> Caller:
    return await api.signed_in(ME)


@pytest.fixture
async def path(api: Api, owner: Caller) -> str:
    return await draft(api, owner)


async def compared(owner: Caller, path: str) -> None:
    made(await owner.put(f"{path}/delivery", COMPARED))


async def test_a_preview_says_what_a_recipient_gets_and_of_which_variant(owner: Caller, path: str) -> None:
    alone = made(await owner.post(f"{path}/preview", {}))
    assert (alone["subject"], alone["version"], alone["variant"], alone["variants"]) == ("Hi", 1, None, [])
    assert alone["sender"] == "news@example.org"
    assert "https://news.example.org/u/preview" in alone["text"]
    named = await owner.post(f"{path}/preview", {"variant": "plain"})
    assert (named.status, named.code, named.json["pointer"]) == (409, "no_variants", "/variant")
    await compared(owner, path)
    first = made(await owner.post(f"{path}/preview", {}))
    assert (first["subject"], first["variant"], first["variants"]) == ("Hi", "plain", ["plain", "voucher"])
    contact = {"name": "Zoë", "addresses": [{"channel": "email", "address": "zoe@example.org"}]}
    zoe = made(await owner.post("/api/v1/contacts", contact), 201)["id"]
    seen = made(await owner.post(f"{path}/preview", {"variant": "voucher", "contact_id": zoe}))
    assert (seen["subject"], seen["variant"]) == ("A voucher, Zoë", "voucher")
    wrong = await owner.post(f"{path}/preview", {"variant": "vouchers"})
    assert (wrong.status, wrong.code, wrong.json["pointer"]) == (422, "unknown_variant", "/variant")
    assert "plain, voucher" in wrong.json["detail"]


async def test_a_test_send_is_of_the_variant_named_marked_and_in_no_figures(api: Api, owner: Caller, path: str) -> None:
    await compared(owner, path)
    given = {"to": [ME], "variant": "voucher", "variables": {"name": "Ann"}}
    done = made(await owner.post(f"{path}/test", given), 202)
    assert (len(done["ids"]), done["variant"]) == (1, "voucher")
    plain = made(await owner.post(f"{path}/test", {"to": [ME]}), 202)
    assert plain["variant"] == "plain"
    async with api.engine() as uow:
        rows = await uow.raw.fetch(
            "SELECT m.id::text, c.subject, m.campaign_id, m.variables->>'name' AS name, m.purpose "
            "FROM messages m JOIN contents c ON c.tenant_id = m.tenant_id AND c.id = m.content_id ORDER BY m.id"
        )
        audit = await uow.raw.fetch("SELECT details FROM audit_log WHERE action = 'template.test_send' ORDER BY seq")
    assert [tuple(row) for row in rows] == [
        (done["ids"][0], "[Test] A voucher, {{ name }}", None, "Ann", "test"),
        (plain["ids"][0], "[Test] Hi", None, None, "test"),
    ]
    assert path.rpartition("/")[2] in str(audit[0][0])
    assert "voucher" in str(audit[0][0])
    stranger = await owner.post(f"{path}/test", {"to": ["eve@example.com"], "variant": "voucher"})
    assert (stranger.status, stranger.code) == (422, "not_a_test_address")
    wrong = await owner.post(f"{path}/test", {"to": [ME], "variant": "none"})
    assert (wrong.status, wrong.code) == (422, "unknown_variant")


async def test_a_winner_is_what_is_seen_tried_and_published(api: Api, owner: Caller, path: str) -> None:
    template = {"name": "other", "subject": "A voucher", "text": "Take this, {{ name }}."}
    other = made(await owner.post("/api/v1/templates", template), 201)["id"]
    plain, voucher = ({"name": name, "share_percent": 50} for name in ("plain", "voucher"))
    test = {"variants": [plain, voucher | {"template_id": other}], "audience_percent": 50, "decision": "by_hand"}
    made(await owner.put(f"{path}/delivery", {"ab_test": test}))
    made(await owner.post(f"{path}/launch", {}), 202)
    await turn(api)
    page = made(await owner.put(f"{path}/web-version", {"variables": {"name": "friend"}}))["url"]
    assert "Take this" not in await _page(api, page), "the first one, while nothing is decided"
    made(await owner.post(f"{path}/winner", {"variant": "voucher"}))
    assert made(await owner.post(f"{path}/preview", {"variables": {"name": "Ann"}}))["variant"] == "voucher"
    assert made(await owner.post(f"{path}/test", {"to": [ME], "variables": {"name": "Ann"}}), 202)["variant"] == (
        "voucher"
    )
    assert "Take this, friend." in await _page(api, page)


async def test_a_campaigns_values_may_be_longer_than_a_column_of_whole_numbers(
    api: Api, owner: Caller, path: str
) -> None:
    await compared(owner, path)
    long = {"variables": {"name": 2**64}}
    assert str(2**64) in made(await owner.post(f"{path}/preview", long | {"variant": "voucher"}))["subject"]
    made(await owner.post(f"{path}/launch", {}), 202)
    await turn(api)
    assert made(await owner.put(f"{path}/web-version", long))["variables"] == long["variables"]


async def test_a_key_sees_a_contact_only_with_the_right_to_read_contacts(api: Api, owner: Caller, path: str) -> None:
    contact = {"name": "Zoë", "addresses": [{"channel": "email", "address": "zoe@example.org"}]}
    zoe = made(await owner.post("/api/v1/contacts", contact), 201)["id"]
    for scopes, status in ((("campaigns:read",), 403), (("campaigns:read", "contacts:read"), 200)):
        caller = api.caller(await api.key(*scopes, role="operator"))
        assert (await caller.post(f"{path}/preview", {"contact_id": zoe})).status == status


async def _page(api: Api, url: str) -> Any:
    return (await api.caller().get(url.removeprefix("https://news.example.org"))).text
