"""The export of a person against every table there is: each that may hold them is in the file, or says why not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from outrider.base.settings import load
from outrider.domain.contacts import consent, suppressions, write
from outrider.domain.contacts.consent import ConsentStatement
from outrider.domain.contacts.views import ContactView
from outrider.domain.contacts.write import ContactChange
from outrider.domain.people import export, making, merge, told
from outrider.domain.people.files import ExportFiles
from tests.kit.audience import ACTOR, Audience, opened
from tests.kit.people import message, person, residue

ADDRESS = "zebulon@example.org"
_OTHERS = """
WITH account AS (
  INSERT INTO connections (tenant_id, name, provider) VALUES ($1, 'main', 'smtp') RETURNING id
), sender AS (
  INSERT INTO senders (tenant_id, name, channel, connection_id, from_address)
  SELECT $1, 'news', 'email', id, 'news@example.org' FROM account RETURNING id
), form AS (
  INSERT INTO signup_forms (tenant_id, name, title, consent_text, purpose, sender_id, created_by)
  SELECT $1, 'garden', 'The garden', 'I agree', 'marketing', id, 'test' FROM sender RETURNING id
), filled_in AS (
  INSERT INTO signups (tenant_id, form_id, form_version, address_hash, address, name, list_ids, text_shown, source, ip,
                       state, expires_at)
  SELECT $1, id, 1, sha256(convert_to($3, 'UTF8')), $3, 'Filled in', '[]', 'I agree to it', 'page', '192.0.2.77',
         'confirmed', now() FROM form
), wrote AS (
  INSERT INTO inbound_messages (tenant_id, channel, connection_id, contact_id, address, number, text, provider_id)
  SELECT $1, 'email', account.id, t.contact_id, t.address, '+14155550100', t.text, t.text
  FROM account, (VALUES ($2::uuid, 'an older address', 'Wrote before'), (NULL, $3, 'Wrote now'),
                        (NULL, 'bob@example.org', 'Bob wrote')) t(contact_id, address, text)
), hears AS (
  INSERT INTO sticky_numbers (tenant_id, sender_id, address, number)
  SELECT $1, sender.id, t.address, t.number
  FROM sender, (VALUES ($3, '+14155550177'), ('bob@example.org', '+14155550188')) t(address, number)
), import AS (
  INSERT INTO imports (tenant_id, file_name, sha256, size_bytes, is_dry_run, created_by)
  SELECT $1, t.name, 'x', 1, t.is_dry, 't' FROM (VALUES ('real.csv', false), ('dry.csv', true)) t(name, is_dry)
  RETURNING id, is_dry_run
), changed AS (
  INSERT INTO import_changes (tenant_id, import_id, contact_id, line, address, is_new, before, after)
  SELECT $1, id, CASE WHEN is_dry_run THEN $1 ELSE $2 END, 7, $3, false, '{"name": "Before"}', '{"name": "After"}'
  FROM import
), refused AS (
  INSERT INTO import_errors (tenant_id, import_id, line, field, code, message, value)
  SELECT $1, id, 9, 'a', 'b', 'c', 'Zebulon <' || $3 || '>' FROM import
), link AS (
  INSERT INTO tracked_links (tenant_id, key, url, parts) VALUES ($1, 77, 'https://example.org/shed', '[]')
), followed AS (
  INSERT INTO message_responses (tenant_id, message_id, kind, link, is_machine, first_at, last_at, hits)
  SELECT $1, $4, t.kind, t.link, false, now(), now(), 3 FROM (VALUES (1, 0), (2, 77)) t(kind, link)
), bounced AS (
  INSERT INTO soft_bounces (tenant_id, message_id, channel, address, at, detail)
  VALUES ($1, $4, 'email', $3, now(), 'mailbox full')
), list AS (
  INSERT INTO lists (tenant_id, name) SELECT $1, t.name FROM (VALUES ('on'), ('off')) t(name) RETURNING id, name
), member AS (
  INSERT INTO list_members (tenant_id, list_id, contact_id) SELECT $1, id, $2 FROM list WHERE name = 'on'
)
INSERT INTO list_refusals (tenant_id, list_id, contact_id, source) SELECT $1, id, $2, 'page'
FROM list WHERE name = 'off' RETURNING 1
"""

Find = Callable[[dict[str, Any]], Any]
TOLD: Final[dict[str, Find]] = {
    # table -> what of it is in the file
    "contacts": lambda file: file["contact"]["attributes"]["city"] == "Quixville",
    "addresses": lambda file: ADDRESS in {each["address"] for each in file["contact"]["addresses"]},
    "consents": lambda file: [each["status"] for each in file["contact"]["consents"]] == ["granted"],
    "consent_events": lambda file: [each["text_shown"] for each in file["consent_history"]] == ["I agree"],
    "contact_merges": lambda file: len(file["merged_contacts"]) == 1,
    "contact_tags": lambda file: [each["tag"] for each in file["tags"]] == ["vip"],
    "list_members": lambda file: [each["name"] for each in file["lists"]] == ["on"],
    "list_refusals": lambda file: [each["name"] for each in file["lists_turned_off"]] == ["off"],
    "suppressions": lambda file: [each["reason"] for each in file["do_not_contact"]] == ["manual"],
    "soft_bounces": lambda file: [each["detail"] for each in file["soft_bounces"]] == ["mailbox full"],
    "audit_log": lambda file: "contact.create" in {each["action"] for each in file["what_was_done"]},
    "messages": lambda file: [each["address"] for each in file["messages"]] == [ADDRESS],
    "contents": lambda file: [each["text"] for each in file["messages"]] == ["Dear Zebulon"],
    "message_events": lambda file: [each["kind"] for each in file["messages"][0]["events"]] == ["sent"],
    "message_responses": lambda file: (
        [(each["kind"], each["url"], each["hits"]) for each in file["messages"][0]["responses"]]
        == [("opened", None, 3), ("clicked", "https://example.org/shed", 3)]
    ),
    "inbound_messages": lambda file: (
        sorted(each["text"] for each in file["messages_received"]) == ["Wrote before", "Wrote now"]
    ),
    "signups": lambda file: (
        [(each["form"], each["ip"], each["text_shown"]) for each in file["forms_filled_in"]]
        == [("The garden", "192.0.2.77", "I agree to it")]
    ),
    "import_changes": lambda file: (
        sorted((each["file_name"], each["before"], each["after"]) for each in file["changed_by_imports"])
        == [(name, {"name": "Before"}, {"name": "After"}) for name in ("dry.csv", "real.csv")]
    ),
    "sticky_numbers": lambda file: (
        [(each["sender"], each["number"]) for each in file["numbers_heard_from"]] == [("news", "+14155550177")]
    ),
}
NOT_TOLD: Final[dict[str, str]] = {
    # table -> why it is not in the file by itself
    "campaign_audience": "only until a day after a campaign has ended; who gets it has its message",
    "campaign_recipients": "keeps a campaign to once per person; what it was for is the message",
    "charges": "what a message was charged: the tenant's money, nothing of the person",
    "contact_sends": "counts messages that are in the file, for the frequency cap",
    "erasures": "ids and hashes of who is erased; of them there is no export",
    "exports": "the asking for this very file, which the audit log tells",
    "import_keys": "only while a dry run is under way",
    "keyed_requests": "which request made which message, against doing it twice: by ids alone",
    "message_sources": "two days only, against abuse: who asked for a text, who may be somebody else",
    "poison_messages": "which messages wait for a decision: their state is in the file",
    "queue": "where a message waits: its state is in the file",
    "tracking_hits": "seconds only, until they are judged: then they are responses",
    "uncertain_messages": "which messages wait for a decision: their state is in the file",
    "warm_up_sends": "counts messages for a plan",
    "webhook_events": "what providers told of messages: what was applied is among their events",
    "import_errors": "quotes lines of a file that were refused: nobody's, though they may name somebody",
}


@pytest.fixture
async def audience(migrated_url: str) -> AsyncIterator[Audience]:
    async with opened(migrated_url) as found:
        yield found


async def whole_person(audience: Audience) -> ContactView:
    """Somebody of whom every table that is told holds something."""
    zeb = await person(audience, "zebulon", attributes={"city": "Quixville"}, external_id="ZX-77", tags=["vip"])
    await person(audience, "bob")
    twin = await person(audience, "twin")
    async with audience.engine() as uow:
        await merge.merge(uow, ACTOR, zeb.id, twin.id)
    async with audience.app() as uow:
        agreed = ConsentStatement("email", "marketing", "granted", "form", text_shown="I agree")
        await consent.set_consent(uow, audience.channels, ACTOR, zeb.id, agreed)
        await suppressions.suppress(uow, audience.channels, ACTOR, "email", ADDRESS, source="test")
        await write.update(uow, ACTOR, zeb.id, ContactChange(name="Zebulon Quix"))
    sent = await message(audience, zeb, text="Dear Zebulon")
    await audience.fetch(_OTHERS, audience.tenant, zeb.id, ADDRESS, sent)
    return zeb


async def exported(audience: Audience, contact: ContactView, folder: Path) -> bytes:
    """The file of an export."""

    async def progress(_: int) -> None:
        return

    async with audience.app() as uow:
        asked = await export.ask(uow, ACTOR, contact.id)
    await making.write(audience.db, load(data_dir=folder), audience.tenant, asked.id, progress)
    async with audience.app() as uow:
        path = await export.fetch(uow, ExportFiles(folder), ACTOR, asked.id)
    return path.read_bytes()


async def test_every_table_that_holds_a_person_is_in_their_export(audience: Audience, tmp_path: Path) -> None:
    zeb = await whole_person(audience)
    whole = await exported(audience, zeb, tmp_path)
    file = json.loads(whole)
    assert [table for table, find in TOLD.items() if not find(file)] == []
    assert b"bob" not in whole.lower()
    assert b"+14155550188" not in whole
    digest = hashlib.sha256(ADDRESS.encode()).hexdigest()
    holding = {table for table, _ in await residue(audience, "zebulon", str(zeb.id), digest)}
    assert {"inbound_messages", "signups", "import_changes", "sticky_numbers", "message_responses"} <= set(TOLD)
    assert holding <= {*TOLD, *NOT_TOLD}, "a table holds a person: put it into the export, or say why not"


async def test_a_table_that_may_hold_a_person_is_in_their_export_or_says_why_not(audience: Audience) -> None:
    rows = await audience.fetch(
        "SELECT DISTINCT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        " AND a.attname IN ('contact_id', 'contact_ids', 'merged_id', 'address', 'address_hash', 'addresses',"
        " 'message_id')"
    )
    assert sorted({table for (table,) in rows} - {*TOLD, *NOT_TOLD}) == []
    everything = await audience.fetch("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    assert sorted({*TOLD, *NOT_TOLD} - {table for (table,) in everything}) == []


async def test_a_section_longer_than_a_page_is_whole(
    audience: Audience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeb = await whole_person(audience)
    monkeypatch.setattr(told, "PAGE", 1)
    file = json.loads(await exported(audience, zeb, tmp_path))
    assert [table for table, find in TOLD.items() if not find(file)] == []
