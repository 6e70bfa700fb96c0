"""Forms, lists on offer and looks over the API: what is made, changed and refused, and that everything is audited."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from tests.contract.access_table import PIXEL
from tests.kit.api import Api, Caller, api_of
from tests.kit.signup import Shop, opened

SCOPES = ("contacts:read", "contacts:write", "tenant:read", "tenant:write")


@pytest.fixture
async def api(migrated_url: str) -> AsyncIterator[Api]:
    async with api_of(migrated_url, public_url="https://mail.gardens.example") as running:
        yield running


@pytest.fixture
async def shop(api: Api) -> Shop:
    return await opened(api)


@pytest.fixture
async def caller(api: Api) -> Caller:
    return api.caller(await api.key(*SCOPES))


async def actions(api: Api) -> list[str]:
    async with api.engine() as uow:
        return [row[0] for row in await uow.raw.fetch("SELECT action FROM audit_log ORDER BY seq")]


async def test_a_form_is_made_shown_changed_listed_and_deleted(shop: Shop, caller: Caller) -> None:
    body = {
        "name": "footer form",
        "title": "Letters",
        "consent_text": "I agree.",
        "list_ids": [str(shop.lists["News"])],
        "sender": str(shop.sender_id),
    }
    made = (await caller.post("/api/v1/forms", body)).json
    assert made["url"].startswith("https://mail.gardens.example/s/")
    assert f'action="{made["url"]}"' in made["html"]
    assert "<script" not in made["html"]
    path = made["url"].removeprefix("https://mail.gardens.example")
    page = await shop.api.caller().get(path)
    assert (page.status, "Letters" in page.text) == (200, True)
    changed = await caller.patch(f"/api/v1/forms/{made['id']}", {"title": "Other", "is_open": False})
    assert (changed.json["title"], changed.json["is_open"], changed.json["version"]) == ("Other", False, 2)
    first = (await caller.get("/api/v1/forms?limit=1")).json
    assert len(first["items"]) == 1
    rest = (await caller.get(f"/api/v1/forms?limit=10&cursor={first['next_cursor']}")).json
    assert [each["id"] for each in rest["items"]] == [made["id"]]
    assert (await caller.delete(f"/api/v1/forms/{made['id']}")).status == 204
    assert (await caller.get(f"/api/v1/forms/{made['id']}")).status == 404
    assert (await shop.api.caller().get(path)).status == 404
    assert {"form.create", "form.change", "form.delete", "list.offer"} <= set(await actions(shop.api))


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"list_ids": [str(uuid4())]}, "not_offered", "/list_ids/0"),
        ({"list_ids": []}, "invalid_value", "/list_ids"),
        ({"title": " "}, "required", "/title"),
        ({"consent_text": " "}, "required", "/consent_text"),
        ({"purpose": "Not A Word"}, "invalid_purpose", "/purpose"),
        ({"sender": "nobody"}, "unknown_sender", "/sender"),
        ({"title": "a\nb\u0007"}, "control_character", "/title"),
        ({"strange": 1}, "unknown_field", "/strange"),
    ],
)
async def test_what_is_wrong_with_a_form_is_named(
    shop: Shop, caller: Caller, change: dict[str, object], code: str, pointer: str
) -> None:
    answer = await caller.patch(f"/api/v1/forms/{shop.form.id}", change)
    assert (answer.status, answer.code, answer.json["pointer"]) == (422, code, pointer)


async def test_names_are_taken_once_and_several_senders_must_be_named(shop: Shop, caller: Caller) -> None:
    await opened(shop.api, "Seeds")
    body = {"name": "n", "title": "t", "consent_text": "c", "list_ids": [str(shop.lists["News"])]}
    assert (await caller.post("/api/v1/forms", body)).code == "sender_required"
    body["sender"] = str(shop.sender_id)
    assert (await caller.post("/api/v1/forms", body)).status == 201
    assert (await caller.post("/api/v1/forms", body)).code == "name_taken"
    assert (await caller.patch(f"/api/v1/forms/{shop.form.id}", {"name": "n"})).code == "name_taken"


async def test_a_program_signs_people_up_and_learns_nothing_of_them(shop: Shop, caller: Caller) -> None:
    path = f"/api/v1/forms/{shop.form.id}/signups"
    body = {"address": "ann@example.org", "agreed": True, "list_ids": [str(shop.lists["News"])], "ip": "192.0.2.7"}
    await shop.suppress("bad@example.org", "complaint")
    answers = [await caller.post(path, {**body, "address": each}) for each in ("ann@example.org", "bad@example.org")]
    assert {(answer.status, answer.text) for answer in answers} == {(202, '{"status":"accepted"}')}
    (link,) = await shop.links()
    await shop.confirm(link)
    (proof,) = await shop.proof("ann@example.org")
    assert "from 192.0.2.7 (api)" in proof["source"]
    for change, code in (
        ({"agreed": False}, "invalid_value"),
        ({"ip": "nowhere"}, "invalid_ip"),
        ({"address": "x"}, "invalid_address"),
        ({"list_ids": []}, "required"),
        ({"list_ids": [str(uuid4())]}, "unknown_list"),
    ):
        answer = await caller.post(path, {**body, **change})
        assert (answer.status, answer.code) == (422, code), change


async def test_a_list_is_offered_described_and_withdrawn(shop: Shop, caller: Caller) -> None:
    news = shop.lists["News"]
    answer = await caller.put(f"/api/v1/lists/{news}/offer", {"title": "Fresh", "description": "d", "place": 9})
    assert (answer.status, answer.json["title"]) == (200, "Fresh")
    assert [each["title"] for each in (await caller.get("/api/v1/offers")).json["items"]] == ["Offers", "Fresh"]
    assert (await caller.put(f"/api/v1/lists/{uuid4()}/offer", {"title": "x"})).status == 404
    assert (await caller.put(f"/api/v1/lists/{news}/offer", {"title": ""})).status == 422
    assert (await caller.delete(f"/api/v1/lists/{news}/offer")).status == 204
    assert (await caller.delete(f"/api/v1/lists/{news}/offer")).status == 404
    form = (await caller.get(f"/api/v1/forms/{shop.form.id}")).json
    assert [each["title"] for each in form["lists"]] == ["Offers"]


async def test_a_look_is_chosen_with_colours_that_can_be_read(shop: Shop, caller: Caller) -> None:
    answer = await caller.patch("/api/v1/look", {"colour": "#006644", "footer": "Line", "reason": "new brand"})
    assert (answer.json["colour"], answer.json["footer"], answer.json["has_logo"]) == ("#006644", "Line", False)
    refused = await caller.patch("/api/v1/look", {"colour_dark": "#006644"})
    assert (refused.status, refused.code, refused.json["pointer"]) == (422, "low_contrast", "/colour_dark")
    assert (await caller.put("/api/v1/look/logo", {"picture": PIXEL})).json["has_logo"]
    for picture in ("PHN2Zz4=", "", "no base64!"):
        assert (await caller.put("/api/v1/look/logo", {"picture": picture})).status == 422
    assert not (await caller.delete("/api/v1/look/logo")).json["has_logo"]
    again = await caller.patch("/api/v1/look", {"colour": ""})
    assert (again.json["colour"], again.json["footer"]) == ("", "Line")
    assert (await actions(shop.api))[-4:] == ["look.change", "look.logo", "look.logo", "look.change"]
