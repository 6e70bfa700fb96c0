"""The unsubscribe link: looking changes nothing, a POST does at once and may be repeated, nobody has to sign in."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html.parser import HTMLParser
from uuid import UUID, uuid4

import asyncpg
import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.domain.contacts import read, write
from outrider.domain.contacts.views import AddressView
from outrider.domain.contacts.write import NewContact
from outrider.domain.limits import switches
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from tests.kit.api import TESTER, Answer, Api, api_of, refill_nothing

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ONE_CLICK = b"List-Unsubscribe=One-Click"


@dataclass
class Letter:
    """A message to Ann and the link in it."""

    id: UUID
    contact_id: UUID
    path: str


@pytest.fixture
async def api(migrated_url: str) -> AsyncIterator[Api]:
    async with api_of(migrated_url) as running:
        yield running


@pytest.fixture
async def letter(api: Api) -> Letter:
    return await sent(api, "ann@example.org")


async def sent(api: Api, address: str, *, tenant: UUID = DEFAULT_TENANT) -> Letter:
    async with api.runtime.db.uow(Role.APP, tenant) as uow:
        new = NewContact(addresses=[AddressView("email", address)])
        contact = await write.create(uow, api.runtime.channels, TESTER, new)
    async with api.runtime.db.uow(Role.ENGINE, tenant) as uow:
        connection_id = await uow.raw.fetchval(
            "INSERT INTO connections (tenant_id, name, provider) VALUES ($1, $2, 'smtp') RETURNING id", tenant, address
        )
        sender_id = await uow.raw.fetchval(
            "INSERT INTO senders (tenant_id, name, channel, connection_id, from_address) "
            "VALUES ($1, $3, 'email', $2, 'news@example.org') RETURNING id",
            tenant,
            connection_id,
            address,
        )
        content_id = await uow.raw.fetchval(
            "INSERT INTO contents (tenant_id, channel, hash, is_template, subject, text) "
            "VALUES ($1, 'email', $2, false, 's', 't') RETURNING id",
            tenant,
            address.encode(),
        )
        key = LaneKey("email", sender_id, "bulk", "marketing", 5)
        (message_id,) = await admit(uow, tenant, key, [NewMessage(address, content_id, contact_id=contact.id)])
    return Letter(message_id, contact.id, f"/u/{api.runtime.unsubscribe_links.sign(tenant, message_id)}")


async def state(api: Api) -> str:
    """A digest of everything an unsubscription could change."""
    async with api.engine() as uow:
        rows = []
        for table in ("suppressions", "consents", "consent_events", "message_events", "audit_log", "queue", "contacts"):
            rows += await uow.raw.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")
        return hashlib.sha256(repr(rows).encode()).hexdigest()


async def click(api: Api, path: str, body: bytes = ONE_CLICK, **headers: str) -> Answer:
    return await api.caller().post(path, data=body, headers={**FORM, **headers})


class Page(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"])
async def test_only_a_post_changes_anything(api: Api, letter: Letter, method: str) -> None:
    before = await state(api)
    answer = await api.caller().ask(method, letter.path, headers={"Purpose": "prefetch"})
    assert answer.status in {200, 204, 405}
    assert await state(api) == before


async def test_a_post_without_the_mark_of_one_click_changes_nothing_and_shows_the_button(
    api: Api, letter: Letter
) -> None:
    before = await state(api)
    for body in (b"x=1", b"List-Unsubscribe=Maybe"):
        answer = await click(api, letter.path, body)
        assert (answer.status, len(Page(answer.text).all("button"))) == (400, 1)
    answer = await api.caller().post(letter.path, data=b"", headers={"Content-Type": "application/json"})
    assert answer.status in {400, 415}
    assert await state(api) == before


async def test_one_click_suppresses_bulk_withdraws_consent_and_tells_the_story(api: Api, letter: Letter) -> None:
    answer = await click(api, letter.path)
    assert answer.status == 200
    assert "unsubscribed" in answer.text
    async with api.engine() as uow:
        (entry,) = await uow.raw.fetch("SELECT scope, reason, source, address, created_by FROM suppressions")
        (event,) = await uow.raw.fetch(
            "SELECT data ->> 'how' FROM message_events WHERE message_id = $1 AND kind = 'unsubscribed'", letter.id
        )
        (held,) = (await read.get(uow, letter.contact_id)).consents
        (proof,) = await read.consent_history(uow, letter.contact_id)
        (audit,) = await uow.raw.fetch("SELECT actor_kind, actor, ip FROM audit_log WHERE action LIKE 'recipient%'")
    assert tuple(entry) == ("bulk", "unsubscribe", f"message:{letter.id}", "ann@example.org", "a…@example.org")
    assert event[0] == "one_click"
    assert (held.status, held.purpose) == ("withdrawn", "marketing")
    assert (proof.status, proof.source, proof.ip) == ("withdrawn", f"message:{letter.id}", "127.0.0.1")
    assert tuple(audit) == ("recipient", "a…@example.org", "127.0.0.1")


async def test_a_mail_programs_multipart_form_is_one_click_too(api: Api, letter: Letter) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--b--\r\n'
    answer = await click(api, letter.path, body, **{"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status == 200
    async with api.engine() as uow:
        assert await uow.raw.fetchval("SELECT count(*) FROM suppressions") == 1


async def test_the_link_works_again_and_changes_nothing_more(api: Api, letter: Letter) -> None:
    await click(api, letter.path)
    before = await state(api)
    for _ in range(3):
        assert (await click(api, letter.path)).status == 200
    assert (await api.caller().get(letter.path)).status == 200
    assert await state(api) == before


async def test_the_pages_own_button_does_it(api: Api, letter: Letter) -> None:
    page = Page((await api.caller().get(letter.path)).text)
    (form,), (button,), (hidden,) = page.all("form"), page.all("button"), page.all("input")
    assert (form.get("method"), form.get("action")) == ("post", None)
    body = f"{hidden['name']}={hidden['value']}&{button['name']}={button['value']}"
    assert (await click(api, letter.path, body.encode())).status == 200
    async with api.engine() as uow:
        assert await uow.raw.fetchval("SELECT data ->> 'how' FROM message_events WHERE kind = 'unsubscribed'") == "page"


async def test_workers_are_told_in_the_same_transaction(api: Api, letter: Letter) -> None:
    heard: list[str] = []
    listener = await asyncpg.connect(api.runtime.database_url)
    try:
        await listener.add_listener("outrider_suppression", lambda *told: heard.append(told[3]))
        await click(api, letter.path)
        await listener.fetchval("SELECT 1")
    finally:
        await listener.close()
    assert heard == [str(DEFAULT_TENANT)]


async def test_the_page_shows_who_and_whom_and_nothing_that_could_be_looked_up(api: Api, letter: Letter) -> None:
    async with api.engine() as uow:
        await uow.raw.execute("UPDATE tenants SET name = '<b>Ünï & Co</b>'")
    answer = await api.caller().get(letter.path)
    assert "&lt;b&gt;Ünï &amp; Co&lt;/b&gt;" in answer.text
    assert "a…@example.org" in answer.text
    for secret in ("ann@example.org", str(letter.id), str(letter.contact_id), str(DEFAULT_TENANT)):
        assert secret not in answer.text + letter.path


async def test_the_page_needs_no_script_and_nothing_from_elsewhere(api: Api, letter: Letter) -> None:
    for answer in (await api.caller().get(letter.path), await click(api, letter.path), await api.caller().get("/u/x")):
        page = Page(answer.text)
        assert page.all("html") == [{"lang": "en"}]
        assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
        assert not page.all("script")
        assert not page.all("link")
        assert not any("src" in attributes or "href" in attributes for _, attributes in page.tags)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "form-action 'self'" in policy
        assert "unsafe" not in policy
        (style,) = re.findall("<style>(.*?)</style>", answer.text, re.DOTALL)
        assert f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "noindex" in answer.headers["X-Robots-Tag"]
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Set-Cookie" not in answer.headers


async def test_a_token_that_is_not_ours_or_whose_message_is_gone_is_a_page_that_says_so(
    api: Api, letter: Letter
) -> None:
    token = letter.path.removeprefix("/u/")
    flipped = ("A" if token[-1] != "A" else "B").join([token[:-1], ""])
    other = api.runtime.unsubscribe_links.sign(uuid4(), letter.id)
    gone = api.runtime.unsubscribe_links.sign(DEFAULT_TENANT, uuid4())
    before = await state(api)
    for bad in ("x", "a" * 64, flipped, token[:-1], token + "A", other, gone, "%00", "…"):
        for answer in (await api.caller().get(f"/u/{bad}"), await click(api, f"/u/{bad}")):
            assert answer.status == 404
    assert "does not work" in (await api.caller().get(f"/u/{flipped}")).text
    assert await state(api) == before


async def test_it_works_while_everything_is_paused_and_concerns_one_tenant_alone(api: Api, letter: Letter) -> None:
    async with api.engine(None) as uow:
        other = await uow.raw.fetchval("INSERT INTO tenants (name) VALUES ('other') RETURNING id")
    theirs = await sent(api, "ann@example.org", tenant=other)
    async with api.app(other) as uow:
        await switches.pause(uow, TESTER, "tenant", None, "test")
    assert (await click(api, theirs.path)).status == 200
    async with api.engine() as uow:
        assert [row["tenant_id"] for row in await uow.raw.fetch("SELECT tenant_id FROM suppressions")] == [other]


async def test_a_browser_of_another_site_may_not_be_made_to_read_it_but_a_mail_page_may_post(
    api: Api, letter: Letter
) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://mail.example.org"}
    answer = await click(api, letter.path, ONE_CLICK, **headers)
    assert answer.status == 200
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_guessing_gets_slow_and_genuine_clicks_from_one_address_do_not(
    api: Api, letter: Letter, monkeypatch: pytest.MonkeyPatch
) -> None:
    refill_nothing(monkeypatch)
    answers = [await api.caller().get(f"/u/{number:064d}") for number in range(40)]
    refused = [answer for answer in answers if answer.status == 429]
    assert len(refused) == 20
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert {(await click(api, letter.path)).status for _ in range(60)} == {200}


async def test_a_form_that_is_too_large_is_refused(api: Api, letter: Letter) -> None:
    answer = await click(api, letter.path, ONE_CLICK + b"&x=" + b"x" * 20_000)
    assert answer.status == 413
    async with api.engine() as uow:
        assert await uow.raw.fetchval("SELECT count(*) FROM suppressions") == 0
