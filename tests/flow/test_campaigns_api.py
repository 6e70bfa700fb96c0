"""The main job over HTTP: contacts, list, template, connection, sender, campaign; launched, paused, cancelled."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.api import Answer, Api, Caller
from tests.kit.campaign_api import campaign_api
from tests.kit.office import key_pair


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with campaign_api(migrated_url, tmp_path) as running:
        yield running


@pytest.fixture
async def owner(api: Api) -> Caller:
    await api.user("ann@example.org")
    return await api.signed_in("ann@example.org")


def made(answer: Answer, status: int = 201) -> Any:
    assert answer.status == status, answer.text
    return answer.json


async def contact(owner: Caller, address: str, **more: Any) -> Any:
    body = {"addresses": [{"channel": "email", "address": address}], **more}
    return made(await owner.post("/api/v1/contacts", body))


async def test_contacts_are_made_changed_found_and_told_apart(owner: Caller) -> None:
    ann = await contact(owner, "Ann@Example.org", name="Ann", external_id="7", attributes={"city": "Bonn"})
    assert ann["addresses"] == [{"channel": "email", "address": "ann@example.org"}]
    twice = await owner.post("/api/v1/contacts", {"addresses": [{"channel": "email", "address": "ANN@example.org"}]})
    assert (twice.status, twice.code, twice.json["pointer"]) == (409, "address_taken", "/addresses/0/address")
    assert twice.json["data"] == {"contact_id": ann["id"]}
    path = f"/api/v1/contacts/{ann['id']}"
    changed = made(await owner.patch(path, {"attributes": {"city": None, "age": 4}, "locale": "de"}), 200)
    assert (changed["attributes"], changed["locale"], changed["name"]) == ({"age": 4}, "de", "Ann")
    found = made(await owner.post("/api/v1/contacts/lookup", {"address": "ANN@EXAMPLE.ORG"}), 200)
    assert found["contact"]["id"] == ann["id"]
    assert made(await owner.post("/api/v1/contacts/lookup", {"address": "b@b.co"}), 200) == {"contact": None}
    assert made(await owner.get("/api/v1/contacts?external_id=7"), 200)["items"][0]["id"] == ann["id"]
    second = {"channel": "email", "address": "ann2@example.org"}
    assert len(made(await owner.post(f"{path}/addresses", second), 200)["addresses"]) == 2
    assert len(made(await owner.post(f"{path}/addresses/remove", second), 200)["addresses"]) == 1
    said = {"channel": "email", "purpose": "marketing", "status": "granted", "source": "form"}
    assert made(await owner.post(f"{path}/consents", said), 200)["consents"][0]["status"] == "granted"
    assert made(await owner.post(f"{path}/consents", {**said, "status": "withdrawn"}), 200)
    again = await owner.post(f"{path}/consents", said)
    assert (again.status, again.code) == (409, "withdrawn_by_recipient")
    assert [event["status"] for event in made(await owner.get(f"{path}/consents"), 200)["items"]] == [
        "granted",
        "withdrawn",
    ]


async def test_a_wrong_or_unknown_field_is_named(owner: Caller) -> None:
    for body, pointer, code in (
        ({"tenant_id": "x"}, "/tenant_id", "unknown_field"),
        ({"addresses": [{"channel": "email", "address": "x"}]}, "/addresses/0/address", "invalid_address"),
        ({"timezone": "Mars/Olympus"}, "/timezone", "unknown_timezone"),
        ({"attributes": {"a b": 1}}, "/attributes", "invalid_key"),
        ({"name": 7}, "/name", "invalid_value"),
    ):
        answer = await owner.post("/api/v1/contacts", body)
        assert (answer.status, answer.code, answer.json["pointer"]) == (422, code, pointer)


async def test_pages_of_contacts_and_members_follow_one_another(owner: Caller) -> None:
    ids = [(await contact(owner, f"p{n}@example.org"))["id"] for n in range(5)]
    news = made(await owner.post("/api/v1/lists", {"name": "News"}))
    done = made(await owner.post(f"/api/v1/lists/{news['id']}/members", {"contact_ids": ids}), 200)
    assert done["changed_count"] == 5
    for path, key in (("/api/v1/contacts", "id"), (f"/api/v1/lists/{news['id']}/members", "contact_id")):
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = made(await owner.get(f"{path}?limit=2&cursor={cursor}"), 200)
            found += [item[key] for item in page["items"]]
            cursor = page["next_cursor"]
        assert found == ids
    removed = await owner.post(f"/api/v1/lists/{news['id']}/members/remove", {"contact_ids": ids[:2]})
    assert made(removed, 200)["changed_count"] == 2
    renamed = made(await owner.patch(f"/api/v1/lists/{news['id']}", {"name": "Letters"}), 200)
    assert (renamed["name"], renamed["member_count"]) == ("Letters", 3)
    assert (await owner.delete(f"/api/v1/lists/{news['id']}")).status == 204


async def test_many_addresses_are_put_on_the_do_not_contact_list_all_or_none(api: Api, owner: Caller) -> None:
    path = "/api/v1/suppressions/batch"
    entries = [{"address": f"P{n}@example.org"} for n in range(5_000)]
    entries[7] |= {"reason": "complaint", "scope": "bulk", "note": "by letter"}
    assert made(await owner.post(path, {"entries": entries}), 200) == {"count": 5_000, "changed_count": 5_000}
    assert made(await owner.post(path, {"entries": entries[:9]}), 200) == {"count": 9, "changed_count": 0}
    (found,) = made(await owner.post("/api/v1/suppressions/lookup", {"address": "p7@example.org"}), 200)["items"]
    assert (found["reason"], found["scope"], found["note"]) == ("complaint", "bulk", "by letter")
    wrong = [{"address": "new@example.org"}, {"address": "nobody"}, {"address": "a@example.org", "channel": "pigeon"}]
    refused = await owner.post(path, {"entries": wrong})
    assert refused.status == 422
    assert [each["pointer"] for each in refused.json["errors"]] == ["/entries/1/address", "/entries/2/channel"]
    assert made(await owner.post("/api/v1/suppressions/lookup", {"address": "new@example.org"}), 200)["items"] == []
    for odd in ([], [*entries, {"address": "one@example.org"}], [{"address": "a@b.co", "reason": "because"}]):
        assert (await owner.post(path, {"entries": odd})).status == 422
    ours = await owner.post(path, {"entries": [{"address": "a@b.co"}], "is_installation": True})
    assert (ours.status, ours.code) == (403, "forbidden")


async def test_the_do_not_contact_list_over_http(api: Api, owner: Caller) -> None:
    body = {"address": "Ann@example.org", "reason": "complaint", "scope": "bulk", "note": "by letter"}
    added = made(await owner.post("/api/v1/suppressions", body), 200)
    assert (added["changed"], added["items"][0]["reason"]) == (True, "complaint")
    found = made(await owner.post("/api/v1/suppressions/lookup", {"address": "ANN@example.org"}), 200)
    assert found["items"][0]["scope"] == "bulk"
    assert len(made(await owner.get("/api/v1/suppressions?reason=complaint"), 200)["items"]) == 1
    assert made(await owner.get("/api/v1/suppressions?channel=sms"), 200)["items"] == []
    kept = await owner.post("/api/v1/suppressions/remove", {"address": "ann@example.org"})
    assert (kept.status, kept.code) == (409, "recipient_asked")
    forced = {"address": "ann@example.org", "force": True, "reason": "asked to come back"}
    assert (await owner.post("/api/v1/suppressions/remove", forced)).status == 204
    ours = await owner.post("/api/v1/suppressions", {"address": "a@b.co", "is_installation": True})
    assert (ours.status, ours.code) == (403, "forbidden")
    await api.user("root@example.org", is_installation_admin=True)
    root = await api.signed_in("root@example.org")
    assert made(await root.post("/api/v1/suppressions", {"address": "a@b.co", "is_installation": True}), 200)
    assert made(await root.get("/api/v1/suppressions?is_installation=true"), 200)["items"][0]["is_installation"]
    assert made(await owner.get("/api/v1/suppressions"), 200)["items"] == []


async def test_secrets_go_in_and_never_come_out(owner: Caller) -> None:
    providers = made(await owner.get("/api/v1/providers"), 200)["items"]
    fields = {field["name"]: field["kind"] for field in providers[0]["fields"]}
    assert (providers[0]["key"], fields["password"], fields["port"]) == ("smtp", "secret", "integer")
    settings = {"host": "127.0.0.1", "port": 1, "tls": "off", "username": "u", "password": "hidden-word"}
    settings["allow_plaintext_auth"] = True
    answers = [await owner.post("/api/v1/connections", {"name": "relay", "provider": "smtp", "settings": settings})]
    connection = made(answers[0])
    path = f"/api/v1/connections/{connection['id']}"
    pem = key_pair("ed25519")
    sender = {"name": "news", "connection_id": connection["id"], "from_address": "News <news@example.org>"}
    sender["dkim"] = [{"domain": "example.org", "selector": "s1", "private_key_pem": pem}]
    answers += [
        await owner.get(path),
        await owner.get("/api/v1/connections"),
        await owner.patch(path, {"settings": {"port": 2}}),
        await owner.post(f"{path}/examine"),
        await owner.post("/api/v1/senders", sender),
        await owner.get("/api/v1/senders"),
        await owner.get("/api/v1/audit"),
        await owner.delete(path),
    ]
    assert [answer.status for answer in answers] == [201, 200, 200, 200, 200, 201, 200, 200, 409]
    for answer in answers:
        assert "hidden-word" not in answer.text
        assert "PRIVATE KEY" not in answer.text
    assert answers[1].json["has_secret"] == {"password": True}
    assert answers[4].json["is_ok"] is False
    assert answers[5].json["dkim"] == [{"domain": "example.org", "selector": "s1", "algorithm": "ed25519"}]
    assert answers[5].json["from_name"] == "News"
    wrong = await owner.post("/api/v1/connections", {"name": "x", "provider": "smtp", "settings": {"port": 0}})
    assert {error["pointer"] for error in wrong.json["errors"]} == {"/settings/host", "/settings/port"}


async def test_templates_are_versioned_and_mistakes_named_with_their_line(owner: Caller) -> None:
    file = {"name": "a.pdf", "content_type": "application/pdf", "content": base64.b64encode(b"x").decode()}
    body = {"name": "letter", "subject": "Hi {{ name }}", "text": "Dear {{ name }}", "attachments": [file]}
    letter = made(await owner.post("/api/v1/templates", body))
    path = f"/api/v1/templates/{letter['id']}"
    assert made(await owner.post(f"{path}/versions", {"subject": "Hello", "html": "<p>x</p>"}))["version"] == 2
    shown = made(await owner.get(path), 200)
    assert (shown["version"], shown["html"], shown["attachments"]) == (2, "<p>x</p>", [])
    first = made(await owner.get(f"{path}/versions/1"), 200)
    assert first["attachments"] == [{"name": "a.pdf", "content_type": "application/pdf", "size_bytes": 1}]
    assert [one["version"] for one in made(await owner.get(f"{path}/versions?limit=1"), 200)["items"]] == [2]
    for odd in ("0", "3", "01", "99999999999999999999", "x"):
        assert (await owner.get(f"{path}/versions/{odd}")).status == 404
    wrong = await owner.post(f"{path}/versions", {"subject": "s", "text": "one\n{{ two"})
    assert (wrong.status, wrong.code, wrong.json["pointer"]) == (422, "invalid_template", "/text")
    assert "line 2" in wrong.json["detail"]
    bad = await owner.post(f"{path}/versions", {"subject": "s", "text": "t", "attachments": [{**file, "name": "con"}]})
    assert (bad.status, bad.json["pointer"]) == (422, "/attachments/0/name")
    assert made(await owner.post(f"{path}/archive"), 200)["archived_at"] is not None
    assert made(await owner.get("/api/v1/templates"), 200)["items"] == []
    assert made(await owner.post(f"{path}/restore"), 200)["archived_at"] is None


async def test_a_campaign_is_drafted_checked_launched_paused_and_cancelled(api: Api, owner: Caller) -> None:
    settings = {"host": "127.0.0.1", "port": 1, "tls": "off"}
    connection = made(
        await owner.post("/api/v1/connections", {"name": "relay", "provider": "smtp", "settings": settings})
    )
    sender = made(
        await owner.post(
            "/api/v1/senders",
            {"name": "news", "connection_id": connection["id"], "from_address": "news@example.org"},
        )
    )
    letter = made(await owner.post("/api/v1/templates", {"name": "letter", "subject": "Hi", "text": "{{ name }}"}))
    news = made(await owner.post("/api/v1/lists", {"name": "News"}))
    ann = await contact(owner, "ann@example.org")
    await owner.post(f"/api/v1/lists/{news['id']}/members", {"contact_ids": [ann["id"]]})
    body = {"name": "November", "sender_id": sender["id"], "template_id": letter["id"], "list_id": news["id"]}
    campaign = made(await owner.post("/api/v1/campaigns", body))
    path = f"/api/v1/campaigns/{campaign['id']}"

    blocked = await owner.post(f"{path}/launch")
    assert (blocked.status, blocked.code) == (409, "nobody")
    said = {"channel": "email", "purpose": "marketing", "status": "granted", "source": "form"}
    await owner.post(f"/api/v1/contacts/{ann['id']}/consents", said)
    checked = made(await owner.post(f"{path}/preflight", {"examine_connection": True}), 200)
    assert (checked["member_count"], checked["will_go_count"]) == (1, 1)
    assert {finding["code"]: finding["is_blocking"] for finding in checked["findings"]} == {
        "no_postal_address": False,
        "connection_failed": False,
        "no_unsubscribe_link": False,
        "empty_suppressions": True,
    }
    unasked = await owner.post(f"{path}/launch")
    assert (unasked.status, unasked.code) == (409, "empty_suppressions")
    unknown = await owner.post(f"{path}/launch", {"acknowledge": ["everything"]})
    assert (unknown.status, unknown.code, unknown.json["pointer"]) == (422, "unknown_acknowledgement", "/acknowledge/0")
    changed = made(await owner.patch(path, {"priority": 3}), 200)
    assert (changed["priority"], changed["preflight"]) == (3, None)

    launched = made(await owner.post(f"{path}/launch", {"acknowledge": ["empty_suppressions"]}), 202)
    assert (launched["state"], launched["template_version"]) == ("sending", 1)
    twice = await owner.post(f"{path}/launch")
    assert (twice.status, twice.code, twice.json["data"]) == (409, "not_draft", {"state": "sending"})
    assert made(await owner.post(f"{path}/pause", {"reason": "wrong price"}), 200)["state"] == "paused"
    assert made(await owner.get(f"{path}/progress"), 200)["paused_by"] == ["campaign"]
    assert made(await owner.post(f"{path}/resume", {}), 200)["state"] == "sending"
    assert made(await owner.get("/api/v1/campaigns?state=sending"), 200)["items"][0]["id"] == campaign["id"]
    cancelled = made(await owner.post(f"{path}/cancel", {"reason": "enough"}), 200)
    assert (cancelled["state"], cancelled["is_finished"]) == ("cancelled", False)
    assert (await owner.delete(path)).status == 409
    assert (await owner.get("/api/v1/campaigns?state=gone")).status == 422


async def test_an_instant_that_cannot_be_counted_with_or_a_priority_out_of_range_is_refused(owner: Caller) -> None:
    ids = dict.fromkeys(("sender_id", "template_id", "list_id"), "00000000-0000-0000-0000-000000000001")
    for extra in (
        {"expires_at": "2026-12-01T10:00:00"},
        {"expires_at": "0001-01-01T00:00:00Z"},  # given back by the database as an infinite one, without an offset
        {"expires_at": "9999-12-31T23:59:59-14:00"},
        {"priority": 10},
        {"template_version": 0},
    ):
        answer = await owner.post("/api/v1/campaigns", {"name": "x", **ids, **extra})
        assert (answer.status, answer.json["pointer"]) == (422, f"/{next(iter(extra))}")
