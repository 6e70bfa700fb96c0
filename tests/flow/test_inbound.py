"""People write to our numbers: a word to stop holds from the commit on and is answered once; both sides are shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.domain.messages import bounces
from outrider.domain.messages.bounces import Failure
from outrider.domain.senders import senders
from tests.kit.texting import PHONE, Texting, texting


@pytest.fixture
async def office(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Texting]:
    async with texting(migrated_url, tmp_path, monkeypatch) as made:
        yield made


async def suppressed(office: Texting) -> list[tuple[str, str]]:
    rows = await office.rows("SELECT address, reason FROM suppressions WHERE tenant_id = $1 ORDER BY 1")
    return [tuple(row) for row in rows]


async def test_stop_suppresses_before_it_is_answered_and_is_answered_once(office: Texting) -> None:
    assert await office.wrote("Stop!") == ["You will get no more messages from Acme. Reply START to get them again."]
    assert await suppressed(office) == [(PHONE, "stop")]
    assert await office.wrote("STOP") == []
    assert await office.wrote("start") == ["You will get messages from Acme again. Reply STOP to opt out."]
    assert await suppressed(office) == []
    assert await office.wrote("start") == []
    assert len(await office.wrote("arrêt")) == 1


async def test_start_undoes_nothing_but_a_stop(office: Texting) -> None:
    body = {"channel": "sms", "address": PHONE, "reason": "complaint"}
    assert (await office.owner.post("/api/v1/suppressions", body)).status in {200, 201}
    assert await office.wrote("START") == []
    assert await suppressed(office) == [(PHONE, "complaint")]


async def test_a_stop_and_a_start_do_not_lift_what_people_entered_before(office: Texting) -> None:
    body = {"channel": "sms", "address": PHONE, "reason": "manual", "note": "asked by their lawyer"}
    assert (await office.owner.post("/api/v1/suppressions", body)).status in {200, 201}
    await office.wrote("STOP")
    assert await office.wrote("START") == []
    assert await suppressed(office) == [(PHONE, "stop")]


async def test_a_start_lifts_a_stop_that_only_the_provider_told_of(office: Texting) -> None:
    message_id = await office.sent()
    await office.report(message_id, "failed", form={"ErrorCode": "21610"})
    await office.applied()
    assert await suppressed(office) == [(PHONE, "stop")]
    assert len(await office.wrote("START")) == 1
    assert await suppressed(office) == []


async def test_a_start_lifts_a_stop_for_which_the_provider_refused_a_message(office: Texting) -> None:
    message_id = await office.sent()
    async with office.api.runtime.db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
        refused = Failure(message_id, "opted_out", "21610", "stop", is_soft=False)
        await bounces.failed(uow.raw, DEFAULT_TENANT, [refused])
    assert await suppressed(office) == [(PHONE, "stop")]
    assert len(await office.wrote("START")) == 1
    assert await suppressed(office) == []


async def test_a_start_is_audited(office: Texting) -> None:
    await office.wrote("STOP")
    await office.wrote("START")
    rows = await office.rows(
        "SELECT actor_kind, action FROM audit_log WHERE tenant_id = $1 AND action LIKE 'recipient.%'"
    )
    assert [tuple(row) for row in rows] == [("recipient", "recipient.came_back")]


async def test_the_tenants_own_words_and_answers_count(office: Texting) -> None:
    settings = {"opt_out_words": "BAJA, stopp", "opt_out_reply": "Adios de {name}", "opt_in_reply": ""}
    changed = await office.owner.patch("/api/v1/tenants/00000000-0000-0000-0000-000000000001", {"settings": settings})
    assert changed.status == 200, changed.text
    assert await office.wrote("baja") == ["Adios de Acme"]
    assert await office.wrote("start") == []
    assert await suppressed(office) == []


async def test_help_is_answered_once_an_hour_also_to_whoever_opted_out(office: Texting) -> None:
    await office.wrote("STOP")
    assert await office.wrote("HELP") == ["Messages from Acme. Reply STOP to opt out."]
    assert await office.wrote("info") == []
    await office.rows(
        "UPDATE inbound_messages SET received_at = received_at - interval '61 minutes' WHERE tenant_id = $1"
    )
    assert len(await office.wrote("help")) == 1


async def test_the_same_text_told_twice_is_one(office: Texting) -> None:
    sid = "SM" + "c" * 32
    assert len(await office.wrote("STOP", MessageSid=sid)) == 1
    assert await office.wrote("STOP", MessageSid=sid) == []
    assert len(await office.rows("SELECT 1 FROM inbound_messages WHERE tenant_id = $1")) == 1


async def test_what_twilio_answered_is_not_answered_again(office: Texting) -> None:
    assert await office.wrote("STOP", OptOutType="STOP") == []
    assert await suppressed(office) == [(PHONE, "stop")]


async def test_an_unknown_number_is_recorded_and_a_stop_to_it_holds(office: Texting) -> None:
    assert await office.wrote("stop", to="+14155550199") == []
    assert await suppressed(office) == [(PHONE, "stop")]
    shown = await office.owner.get("/api/v1/callbacks?in_state=unknown_number")
    assert [each["note"] for each in shown.json["items"]] == ["no sender has this number"]


@pytest.mark.parametrize("sender", ["+1", "Anonymous", "whatsapp:+14155552671", "", "12345"])
async def test_whoever_cannot_be_written_to_is_kept_and_not_answered(office: Texting, sender: str) -> None:
    assert await office.wrote("STOP", sender=sender) == []
    assert await suppressed(office) == []
    (row,) = await office.rows("SELECT word FROM inbound_messages WHERE tenant_id = $1")
    assert row["word"] == "stop"


async def test_a_pools_number_is_known_and_a_conversation_shows_both_sides(office: Texting) -> None:
    body = {"number": "+14155550111", "sender_id": office.sender["id"]}
    assert (await office.owner.post("/api/v1/numbers", body)).status == 201
    person = {"name": "Ann", "addresses": [{"channel": "sms", "address": PHONE}]}
    contact = (await office.owner.post("/api/v1/contacts", person)).json
    message_id = await office.sent()
    assert await office.wrote("Please stop by at 5 <script>", to="+14155550111") == []
    shown = await office.owner.get(f"/api/v1/contacts/{contact['id']}/conversation")
    assert [(each["direction"], each["text"], each["is_flagged"]) for each in shown.json["items"]] == [
        ("received", "Please stop by at 5 <script>", True),
        ("sent", "Hello", False),
    ]
    assert shown.json["items"][1]["id"] == str(message_id)
    flagged = await office.owner.get("/api/v1/inbound?flagged=true")
    assert [(each["address"], each["number"]) for each in flagged.json["items"]] == [(PHONE, "+14155550111")]
    assert await suppressed(office) == []


async def _conversation(office: Texting, contact_id: str) -> list[tuple[str, bool]]:
    shown = await office.owner.get(f"/api/v1/contacts/{contact_id}/conversation")
    assert shown.status == 200, shown.text
    return [(each["text"], each["is_withheld"]) for each in shown.json["items"]]


async def test_what_was_said_to_somebody_is_shown_as_they_got_it(office: Texting) -> None:
    person = {"name": "Ann", "addresses": [{"channel": "sms", "address": PHONE}]}
    contact = (await office.owner.post("/api/v1/contacts", person)).json
    template = {"name": "sale", "channel": "sms", "text": "{{ name }}: 20% off. {{ unsubscribe_url }}"}
    assert (await office.owner.post("/api/v1/templates", template)).status == 201
    plain: dict[str, Any] = {"text": None, "template": "sale", "variables": {"name": "Ann"}, "class": "bulk"}
    await office.accepted(**plain)
    await office.accepted(text="Your code is 123456", purpose="otp")
    link = f"{office.api.runtime.settings.public_url}/u/preview"
    assert await _conversation(office, contact["id"]) == [("", True), (f"Ann: 20% off. {link}", False)]
    path = f"/api/v1/tenants/{DEFAULT_TENANT}"
    changed = await office.owner.patch(path, {"settings": {"private_purposes": "marketing"}})
    assert changed.status == 200, changed.text
    assert await _conversation(office, contact["id"]) == [("Your code is 123456", False), ("", True)]


async def test_a_conversation_is_read_page_by_page_each_turn_once(office: Texting) -> None:
    person = {"name": "Ann", "addresses": [{"channel": "sms", "address": PHONE}]}
    contact = (await office.owner.post("/api/v1/contacts", person)).json
    for number in range(3):
        await office.accepted(text=f"we {number}")
        await office.wrote(f"they {number}")
    path = f"/api/v1/contacts/{contact['id']}/conversation"
    read: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await office.owner.get(f"{path}?limit=2&cursor={cursor}")).json
        assert len(page["items"]) <= 2
        read += page["items"]
        cursor = page["next_cursor"]
    assert [each["text"] for each in read] == ["they 2", "we 2", "they 1", "we 1", "they 0", "we 0"]
    assert read == (await office.owner.get(f"{path}?limit=100")).json["items"]
    assert (await office.owner.get(f"{path}?cursor=x")).code == "invalid_cursor"


async def test_a_sender_is_looked_up_once_for_all_that_a_conversation_shows(
    office: Texting, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = {"name": "Ann", "addresses": [{"channel": "sms", "address": PHONE}]}
    contact = (await office.owner.post("/api/v1/contacts", person)).json
    for number in range(3):
        await office.accepted(text=f"we {number}")
    asked: list[Any] = []
    look_up = senders.get

    async def get(uow: Any, sender_id: Any) -> Any:
        asked.append(sender_id)
        return await look_up(uow, sender_id)

    monkeypatch.setattr(senders, "get", get)
    assert [text for text, _ in await _conversation(office, contact["id"])] == ["we 2", "we 1", "we 0"]
    assert len(asked) == 1


async def test_what_is_no_longer_kept_is_no_longer_shown(office: Texting) -> None:
    person = {"name": "Ann", "addresses": [{"channel": "sms", "address": PHONE}]}
    contact = (await office.owner.post("/api/v1/contacts", person)).json
    await office.accepted()
    template = {"name": "sale", "channel": "sms", "text": "Hello {{ name }}"}
    assert (await office.owner.post("/api/v1/templates", template)).status == 201
    await office.accepted(text=None, template="sale", variables={"name": "Ann"})
    assert [text for text, _ in await _conversation(office, contact["id"])] == ["Hello Ann", "Hello"]
    async with office.api.engine() as uow:
        await uow.raw.execute("DELETE FROM contents WHERE tenant_id = $1 AND text = 'Hello'", DEFAULT_TENANT)
        await uow.raw.execute("UPDATE messages SET variables = NULL WHERE tenant_id = $1", DEFAULT_TENANT)
    assert [text for text, _ in await _conversation(office, contact["id"])] == ["", ""]


async def test_who_is_erased_leaves_nothing_they_wrote(office: Texting) -> None:
    person = {"name": "Ann", "addresses": [{"channel": "sms", "address": PHONE}]}
    contact = (await office.owner.post("/api/v1/contacts", person)).json
    await office.wrote("my secret")
    gone = await office.owner.post(f"/api/v1/contacts/{contact['id']}/erase", {"reason": "asked"})
    assert gone.status == 202, gone.text
    assert await office.rows("SELECT 1 FROM inbound_messages WHERE tenant_id = $1") == []
