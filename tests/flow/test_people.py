"""One person as a whole on a real database: merged without losing a withdrawal, exported, erased without residue."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outrider.base.errors import Refused, Unavailable
from outrider.base.settings import load
from outrider.contracts.invariant import Finding
from outrider.domain.contacts import consent, lists, read, suppressions, tags, write
from outrider.domain.contacts.consent import ConsentStatement
from outrider.domain.contacts.validate import validate
from outrider.domain.contacts.views import AddressView, ContactView
from outrider.domain.contacts.write import ContactChange, NewContact
from outrider.domain.people import erase, expire, export, making, merge
from outrider.domain.people.files import ExportFiles
from tests.kit.audience import ACTOR, Audience, opened
from tests.kit.people import message, person, residue

_CHOSEN = """
WITH account AS (
  INSERT INTO connections (tenant_id, name, provider) VALUES ($1, md5($3), 'smtp') RETURNING id
), sender AS (
  INSERT INTO senders (tenant_id, name, channel, connection_id, from_address)
  SELECT $1, md5($3), 'email', id, 'news@example.org' FROM account RETURNING id
), list AS (
  INSERT INTO lists (tenant_id, name) VALUES ($1, md5($3)) RETURNING id
), content AS (
  SELECT id FROM contents WHERE tenant_id = $1 LIMIT 1
), campaign AS (
  INSERT INTO campaigns (tenant_id, name, channel, sender_id, content_id, list_id, created_by, state)
  SELECT $1, md5($3), 'email', sender.id, content.id, list.id, 'test', 'paused'
  FROM sender, list, content RETURNING id
)
INSERT INTO campaign_recipients (tenant_id, campaign_id, contact_id, address, message_id)
SELECT $1, id, $2, $3, $4 FROM campaign RETURNING 1
"""


@pytest.fixture
async def audience(migrated_url: str) -> AsyncIterator[Audience]:
    async with opened(migrated_url) as found:
        yield found


async def said(audience: Audience, contact: ContactView, status: Any, purpose: str = "marketing") -> None:
    async with audience.app() as uow:
        told = ConsentStatement("email", purpose, status, "form", text_shown="I agree")
        await consent.set_consent(uow, audience.channels, ACTOR, contact.id, told)


async def _nothing(_: int) -> None:
    return


async def findings(audience: Audience) -> list[Finding]:
    async with audience.engine() as uow:
        return [each async for each in validate(uow.raw)]


_COUNTED = (
    "INSERT INTO contact_sends (tenant_id, message_id, token, contact_id, purpose) VALUES ($1, $2, 1, $3, 'marketing')"
)


async def test_two_contacts_become_one_with_all_that_either_had(audience: Audience) -> None:
    ann = await person(audience, "ann", attributes={"plan": "gold"}, tags=["vip"])
    anna = await person(
        audience, "anna", attributes={"plan": "free", "age": 40}, external_id="7", tags=["old"], locale="de"
    )
    async with audience.app() as uow:
        news = (await lists.create(uow, ACTOR, "news")).id
        await lists.add_members(uow, ACTOR, news, [anna.id])
    sent = await message(audience, anna)
    async with audience.engine() as uow:
        await uow.raw.execute(_COUNTED, uow.tenant, sent, anna.id)
        one = await merge.merge(uow, ACTOR, ann.id, anna.id, reason="the same")
    assert (one.name, one.external_id, one.locale, one.tags) == ("ann", "7", "de", ["old", "vip"])
    assert one.attributes == {"plan": "gold", "age": 40}
    assert [each.address for each in one.addresses] == ["ann@example.org", "anna@example.org"]
    assert await audience.fetch("SELECT contact_id FROM list_members WHERE list_id = $1", news) == [(ann.id,)]
    assert await audience.fetch("SELECT contact_id FROM messages WHERE id = $1", sent) == [(ann.id,)]
    counted = await audience.fetch("SELECT contact_id FROM contact_sends WHERE message_id = $1", sent)
    assert counted == [(ann.id,)], "what one of them got counts for the frequency cap of the other"
    async with audience.app() as uow:
        with pytest.raises(Refused):
            await read.get(uow, anna.id)
    again = await person(audience, "third")
    async with audience.engine() as uow:
        await merge.merge(uow, ACTOR, again.id, ann.id)
    rows = await audience.fetch("SELECT merged_id, contact_id FROM contact_merges")
    assert set(rows) == {(anna.id, again.id), (ann.id, again.id)}


@pytest.mark.parametrize("first", ["kept", "other"])
async def test_a_withdrawal_of_either_survives_a_merge(first: str, audience: Audience) -> None:
    ann, anna = await person(audience, "ann"), await person(audience, "anna")
    withdrawing, granting = (ann, anna) if first == "kept" else (anna, ann)
    await said(audience, withdrawing, "withdrawn")
    await said(audience, granting, "granted")  # later: still no grant for the other address
    async with audience.engine() as uow:
        one = await merge.merge(uow, ACTOR, ann.id, anna.id)
        assert [each.status for each in one.consents] == ["withdrawn"]
        assert len(await read.consent_history(uow, ann.id)) == 3
    assert await findings(audience) == []


async def test_a_merge_that_cannot_be_is_refused_and_changes_nothing(audience: Audience) -> None:
    ann = await person(audience, "ann")
    other = await audience.other_tenant()
    async with audience.app(other) as uow:
        theirs = await write.create(uow, audience.channels, ACTOR, NewContact(name="eve"))
    for keep, gone, code in (
        (ann.id, ann.id, "same_contact"),
        (ann.id, theirs.id, "not_found"),
        (theirs.id, ann.id, "not_found"),
    ):
        with pytest.raises(Refused) as refused:
            async with audience.engine() as uow:
                await merge.merge(uow, ACTOR, keep, gone)
        assert refused.value.code == code
    assert await audience.fetch("SELECT count(*) FROM contacts") == [(2,)]


async def test_an_export_holds_everything_there_is_about_a_person(audience: Audience, tmp_path: Path) -> None:
    ann = await person(audience, "ann", attributes={"plan": "gold"}, tags=["vip"])
    bob = await person(audience, "bob")
    await said(audience, ann, "granted")
    async with audience.app() as uow:
        await suppressions.suppress(uow, audience.channels, ACTOR, "email", "ann@example.org", source="test")
    first = await message(audience, ann, text="Dear Ann")
    await message(audience, bob, text="Dear Bob")
    await message(audience, bob, address="ann@example.org", text="To her address")
    settings = load(data_dir=tmp_path)
    async with audience.app() as uow:
        asked = await export.ask(uow, ACTOR, ann.id)
        with pytest.raises(Refused) as refused:
            await export.fetch(uow, ExportFiles(tmp_path), ACTOR, asked.id)
        assert refused.value.code == "not_ready"
    assert await making.write(audience.db, settings, audience.tenant, asked.id, _nothing) == 2
    async with audience.app() as uow:
        path = await export.fetch(uow, ExportFiles(tmp_path), ACTOR, asked.id)
        done = await export.get(uow, asked.id)
    whole = path.read_bytes()
    assert (done.size_bytes, done.sha256, done.row_count) == (len(whole), hashlib.sha256(whole).hexdigest(), 2)
    assert path.stat().st_mode & 0o777 == 0o600
    told = json.loads(whole)
    assert told["contact"]["attributes"] == {"plan": "gold"}
    assert [each["tag"] for each in told["tags"]] == ["vip"]
    assert [each["status"] for each in told["consent_history"]] == ["granted"]
    assert [each["reason"] for each in told["do_not_contact"]] == ["manual"]
    assert [each["subject"] for each in told["messages"]] == ["Dear Ann", "To her address"]
    assert told["messages"][0]["id"] == str(first)
    assert [event["kind"] for event in told["messages"][0]["events"]] == ["sent"]
    assert "contact.create" in {each["action"] for each in told["what_was_done"]}
    assert b"bob" not in whole.lower()


async def test_a_file_leaves_the_disk_when_its_time_is_over(audience: Audience, tmp_path: Path) -> None:
    ann = await person(audience, "ann")
    async with audience.app() as uow:
        asked = await export.ask(uow, ACTOR, ann.id)
    await making.write(audience.db, load(data_dir=tmp_path), audience.tenant, asked.id, _nothing)
    path = ExportFiles(tmp_path).of(audience.tenant, asked.id)
    assert await expire.expire(audience.db, tmp_path) == 0
    assert path.exists()
    await audience.fetch("UPDATE exports SET expires_at = now() - interval '1 minute' RETURNING 1")
    os.utime(path, (0, 0))
    assert await expire.expire(audience.db, tmp_path) == 1
    async with audience.app() as uow:
        assert (await export.get(uow, asked.id)).state == "expired"


async def erased(audience: Audience, contact: ContactView, settings: Any) -> erase.ErasureView:
    async with audience.engine() as uow:
        begun = await erase.begin(uow, ACTOR, contact.id, reason="asked for it")
    await erase.finish(audience.db, settings, audience.tenant, begun.id, _nothing)
    async with audience.engine() as uow:
        return await erase.get(uow, begun.id)


async def test_an_erasure_leaves_nothing_but_the_promise_not_to_write(audience: Audience, tmp_path: Path) -> None:
    settings = load(data_dir=tmp_path)
    ann = await person(audience, "zebulon", attributes={"city": "Quixville"}, external_id="ZX-77", tags=["vip"])
    bob = await person(audience, "bob")
    await said(audience, ann, "granted")
    for text in ("Dear Zebulon", "The same for all"):
        await message(audience, ann, text=text)
    shared = await message(audience, bob, text="The same for all")
    open_one = await message(audience, ann, state="queued")
    await audience.fetch(
        "INSERT INTO imports (tenant_id, id, file_name, sha256, size_bytes, created_by)"
        " VALUES ($1, $1, 'f', 'x', 1, 't') RETURNING 1",
        audience.tenant,
    )
    await audience.fetch(
        "INSERT INTO import_errors (tenant_id, import_id, line, field, code, message, value)"
        " VALUES ($1, $1, 1, 'a', 'b', 'c', 'Zebulon <ZEBULON@example.org>') RETURNING 1",
        audience.tenant,
    )
    async with audience.app() as uow:
        asked = await export.ask(uow, ACTOR, ann.id)
    await making.write(audience.db, settings, audience.tenant, asked.id, _nothing)
    words = ("zebulon", "Quixville", "ZX-77")
    before = {table for table, _ in await residue(audience, *words)}
    assert {"contacts", "addresses", "messages", "message_events", "contents", "import_errors"} <= before
    done = await erased(audience, ann, settings)
    assert await residue(audience, *words) == []
    assert (done.state, done.message_count, done.file_count) == ("completed", 3, 1)
    assert not ExportFiles(tmp_path).of(audience.tenant, asked.id).exists()
    async with audience.app() as uow:
        (kept,) = await suppressions.lookup(uow, audience.channels, "email", "zebulon@example.org")
        assert (kept.address, kept.reason, kept.scope) == (None, "erased", "all")
        with pytest.raises(Refused) as refused:
            await suppressions.unsuppress(uow, audience.channels, ACTOR, "email", "zebulon@example.org", reason="x")
        assert refused.value.code == "recipient_asked"
    assert await audience.fetch("SELECT state FROM messages WHERE id = $1", open_one) == [("cancelled",)]
    assert await audience.fetch("SELECT count(*) FROM queue") == [(0,)]
    ((text,),) = await audience.fetch(
        "SELECT c.text FROM messages m JOIN contents c ON c.id = m.content_id WHERE m.id = $1", shared
    )
    assert text == "The same for all"
    assert await audience.fetch("SELECT count(*) FROM contacts") == [(1,)]


async def test_an_erasure_reaches_campaigns_whose_messages_retention_has_taken(
    audience: Audience, tmp_path: Path
) -> None:
    zeb, bob = await person(audience, "zebulon"), await person(audience, "bob")
    sent = {each.name: await message(audience, each) for each in (zeb, bob)}
    for each in (zeb, bob):
        await audience.fetch(_CHOSEN, audience.tenant, each.id, each.addresses[0].address, sent[each.name])
    await audience.fetch("DELETE FROM messages WHERE id = $1 RETURNING 1", sent["zebulon"])
    await audience.fetch("DELETE FROM message_events WHERE message_id = $1 RETURNING 1", sent["zebulon"])
    await erased(audience, zeb, load(data_dir=tmp_path))
    assert await residue(audience, "zebulon") == []
    kept = await audience.fetch("SELECT contact_id, address FROM campaign_recipients ORDER BY message_id")
    assert kept == [(zeb.id, f"erased:{sent['zebulon']}"), (bob.id, "bob@example.org")]


_VARIANT = """
INSERT INTO campaign_variants (tenant_id, campaign_id, n, name, width, content_id, template_id, template_version,
                               subject)
SELECT $1, p.id, 1, 'b', 5000, c.id, $1, 1, c.subject FROM campaigns p, contents c
WHERE p.tenant_id = $1 AND c.tenant_id = $1 AND c.text = $2 RETURNING 1
"""


async def test_the_only_reader_of_a_variant_is_erased_and_the_variant_stays(audience: Audience, tmp_path: Path) -> None:
    ann, bob = await person(audience, "ann"), await person(audience, "bob")
    sent = await message(audience, bob, text="The campaign's own")
    await audience.fetch(_CHOSEN, audience.tenant, bob.id, "bob@example.org", sent)
    await message(audience, ann, text="Another subject")
    await audience.fetch(_VARIANT, audience.tenant, "Another subject")
    done = await erased(audience, ann, load(data_dir=tmp_path))
    assert (done.state, done.message_count) == ("completed", 1)
    assert await audience.fetch("SELECT count(*) FROM contents WHERE text = 'Another subject'") == [(1,)]


async def test_an_erasure_waits_for_what_is_being_sent_and_keeps_a_stronger_reason(
    audience: Audience, tmp_path: Path
) -> None:
    settings = load(data_dir=tmp_path)
    ann = await person(audience, "zebulon")
    async with audience.app() as uow:
        await suppressions.suppress(
            uow,
            audience.channels,
            ACTOR,
            "email",
            "zebulon@example.org",
            source="x",
            reason="complaint",
            note="zebulon said",
        )
    leased = await message(audience, ann, state="queued")
    await audience.fetch("UPDATE queue SET state = 1, token = 7 WHERE message_id = $1 RETURNING 1", leased)
    async with audience.engine() as uow:
        begun = await erase.begin(uow, ACTOR, ann.id, reason="x")
    with pytest.raises(Unavailable):
        await erase.finish(audience.db, settings, audience.tenant, begun.id, _nothing)
    assert await audience.fetch("SELECT address FROM messages WHERE id = $1", leased) == [("zebulon@example.org",)]
    await audience.fetch("DELETE FROM queue WHERE message_id = $1 RETURNING 1", leased)
    assert await erase.finish(audience.db, settings, audience.tenant, begun.id, _nothing) == 1
    assert await erase.finish(audience.db, settings, audience.tenant, begun.id, _nothing) == 1  # once more is harmless
    assert await residue(audience, "zebulon") == []
    async with audience.app() as uow:
        (kept,) = await suppressions.lookup(uow, audience.channels, "email", "zebulon@example.org")
    assert (kept.reason, kept.address, kept.note) == ("complaint", None, "")


async def test_an_export_of_somebody_who_is_erased_meanwhile_leaves_no_file(audience: Audience, tmp_path: Path) -> None:
    settings = load(data_dir=tmp_path)
    ann = await person(audience, "zebulon")
    await message(audience, ann)
    async with audience.app() as uow:
        asked = await export.ask(uow, ACTOR, ann.id)

    async def meanwhile(_: int) -> None:
        async with audience.engine() as uow:
            if await uow.raw.fetchval("SELECT count(*) FROM contacts WHERE id = $1", ann.id):
                await erase.begin(uow, ACTOR, ann.id, reason="x")

    with pytest.raises(Refused) as refused:
        await making.write(audience.db, settings, audience.tenant, asked.id, meanwhile)
    assert refused.value.code == "gone"
    assert list((tmp_path / "exports").iterdir()) == []


async def test_nobody_erases_or_exports_somebody_of_another_tenant(audience: Audience) -> None:
    ann = await person(audience, "ann")
    other = await audience.other_tenant()
    async with audience.app(other) as uow:
        with pytest.raises(Refused):
            await export.ask(uow, ACTOR, ann.id)
        with pytest.raises(Refused):
            await erase.begin(uow, ACTOR, ann.id, reason="x")
    async with audience.app() as uow:
        assert (await read.get(uow, ann.id)).name == "ann"


async def test_tags_and_changes_of_a_person_do_not_survive_in_the_audit_log(audience: Audience, tmp_path: Path) -> None:
    ann = await person(audience, "zebulon")
    async with audience.app() as uow:
        await write.update(uow, ACTOR, ann.id, ContactChange(name="Zebulon Quix", attributes={"city": "Quixville"}))
        await tags.add(uow, ACTOR, [ann.id], ["vip"])
        await write.add_address(uow, audience.channels, ACTOR, ann.id, AddressView("email", "zebulon2@example.org"))
        await write.remove_address(uow, audience.channels, ACTOR, ann.id, AddressView("email", "zebulon2@example.org"))
    await erased(audience, ann, load(data_dir=tmp_path))
    assert await residue(audience, "zebulon", "Quixville") == []
