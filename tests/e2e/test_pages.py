"""What people see in a browser: the unsubscribe page, the API's root, the sandbox's inbox.

Each page is opened wide and as wide as a telephone, light and dark, by a real browser that can reach nothing but
this machine; what it asks for, what its console says and what a person would stumble over is looked at.
"""

from __future__ import annotations

import smtplib
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path
from uuid import uuid4

import pytest

from outrider.interfaces.sandbox.resend import ResendOptions, ResendSandbox
from outrider.interfaces.sandbox.rules import Refuse
from outrider.interfaces.sandbox.twilio import TwilioOptions, TwilioSandbox
from tests.kit.api import Api, api_of, refill_nothing
from tests.kit.browser import Browser, Page
from tests.kit.dispatch import Desk, Post
from tests.kit.elsewhere import Elsewhere
from tests.kit.looking import EYES, assert_well_made
from tests.kit.processes import until
from tests.kit.smtp_talk import RunningSandbox, open_sandbox, with_smtplib

ODD_NAME = "متجر الحدائق 🎉 & <b>Söhne</b> " + "Gesellschaft" * 6
LONG_ADDRESS = "very." + "long" * 14 + "@" + "department." * 8 + "example.org"


@pytest.fixture
async def api(post: Post) -> AsyncIterator[Api]:
    async with api_of(post.runtime.database_url) as running:
        yield running


async def link_of(api: Api, post: Post, *, tenant: str = "", address: str = "ada@example.org") -> tuple[str, Desk]:
    """The unsubscribe link of a newsletter that one person has got, as in its footer."""
    desk = await post.desk()
    await post.execute("UPDATE tenants SET name = $1 WHERE id = $2", tenant or f"Gardens {uuid4()}", desk.tenant_id)
    (message_id,) = await desk.admit(message_class="bulk", purpose="marketing", address=address)
    return f"{api.url}/u/{api.runtime.unsubscribe_links.sign(desk.tenant_id, message_id)}", desk


async def suppressed(post: Post, desk: Desk) -> list[tuple[str, str, str]]:
    rows = await post.fetch("SELECT address, scope, reason FROM suppressions WHERE tenant_id = $1", desk.tenant_id)
    return [(row["address"], row["scope"], row["reason"]) for row in rows]


async def heading(page: Page) -> str:
    return str(await page.ask("document.querySelector('h1').innerText"))


async def test_one_press_unsubscribes_without_any_script(browser: Browser, api: Api, post: Post) -> None:
    url, desk = await link_of(api, post)
    async with browser.page(width=390, height=844, has_script=False) as page:
        await page.goto(url)
        assert (await heading(page)).startswith("Unsubscribe from Gardens")
        assert await suppressed(post, desk) == []
        await page.press("button")
        assert await heading(page) == "You are unsubscribed"
        assert await suppressed(post, desk) == [("ada@example.org", "bulk", "unsubscribe")]
        await page.goto(url)
        assert await heading(page) == "You are already unsubscribed"
        assert await page.ask("document.querySelector('button')") is None
        assert page.complaints == []


async def test_the_keyboard_alone_unsubscribes_and_shows_where_it_is(browser: Browser, api: Api, post: Post) -> None:
    url, desk = await link_of(api, post)
    async with browser.page() as page:
        await page.goto(url)
        assert await page.tab() == "Unsubscribe"
        outline = await page.ask("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        await page.key("Enter")
        await page.loaded()
        assert await heading(page) == "You are unsubscribed"
    assert len(await suppressed(post, desk)) == 1


async def test_looking_changes_nothing_however_often(browser: Browser, api: Api, post: Post) -> None:
    url, desk = await link_of(api, post)
    async with browser.page() as page:
        for _ in range(3):
            await page.goto(url)
    path = url.removeprefix(api.url)
    answers = [await api.caller().ask(method, path) for method in ("HEAD", "OPTIONS", "GET")]
    assert [answer.status for answer in answers] == [200, 204, 200]
    assert await suppressed(post, desk) == []


async def test_a_press_on_a_page_opened_before_is_taken_and_once_more_changes_nothing(
    browser: Browser, api: Api, post: Post
) -> None:
    url, desk = await link_of(api, post)
    async with browser.page() as early, browser.page() as late:
        for page in (early, late):
            await page.goto(url)
        for page in (early, late):
            await page.press("button")
            assert await heading(page) == "You are unsubscribed"
    assert len(await suppressed(post, desk)) == 1


async def test_the_unsubscribe_pages_are_well_made(browser: Browser, api: Api, post: Post) -> None:
    asked, _ = await link_of(api, post)
    odd, _ = await link_of(api, post, tenant=ODD_NAME, address=LONG_ADDRESS)
    done, _ = await link_of(api, post)
    async with browser.page() as page:
        await page.goto(done)
        await page.press("button")
        assert await page.ask(EYES) == []
    await assert_well_made(browser, asked, odd, done)
    async with browser.page() as page:
        await page.goto(odd)
        assert ODD_NAME in await page.ask("document.querySelector('h1').textContent")
        assert await page.ask("document.querySelectorAll('main b').length") == 0


async def test_links_that_are_none_and_too_many_of_them_are_pages_too(
    browser: Browser, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    refill_nothing(monkeypatch)
    await assert_well_made(browser, f"{api.url}/u/{'x' * 64}", status=404)
    answers = [await api.caller().get("/u/guess") for _ in range(30)]
    refused = answers[-1]
    assert (refused.status, refused.headers["Content-Type"]) == (429, "text/html; charset=utf-8")
    assert "Retry-After" in refused.headers
    assert "<h1>Too many tries</h1>" in refused.text


async def test_while_the_database_is_away_the_page_says_to_come_again(browser: Browser, post: Post) -> None:
    async with api_of("postgresql://nobody@/none?host=/nowhere") as broken:
        url = f"{broken.url}/u/{broken.runtime.unsubscribe_links.sign(uuid4(), uuid4())}"
        await assert_well_made(browser, url, status=503)
        async with browser.page() as page:
            await page.goto(url)
            assert await heading(page) == "This did not work just now"


async def test_the_root_leads_people_and_programs_on(browser: Browser, api: Api) -> None:
    await assert_well_made(browser, api.url + "/")
    async with browser.page() as page:
        await page.goto(api.url + "/")
        links = await page.ask("[...document.querySelectorAll('a')].map((each) => each.getAttribute('href'))")
    answer = await api.caller().get("/")
    assert sorted(answer.json["links"].values()) == sorted(links)
    assert answer.headers["Vary"] == "Accept"
    for path in links:
        assert (await api.caller().get(path)).status == 200


async def test_the_proof_of_a_consent_is_a_well_made_page_alone_on_a_disk(
    browser: Browser, api: Api, tmp_path: Path
) -> None:
    await api.user("owner@example.org")
    owner = await api.signed_in("owner@example.org")
    addresses = [{"channel": "email", "address": LONG_ADDRESS}]
    contact = (await owner.post("/api/v1/contacts", {"name": ODD_NAME, "addresses": addresses})).json["id"]
    said = {
        "channel": "email",
        "purpose": "news",
        "source": "form",
        "text_shown": "Yes.\n" + "x" * 300,
        "ip": "192.0.2.7",
    }
    for status in ("granted", "withdrawn", "granted"):
        await owner.post(f"/api/v1/contacts/{contact}/consents", {**said, "status": status})
    answer = await owner.post(f"/api/v1/contacts/{contact}/consents/proof.html", {"purpose": "news"})
    assert answer.status == 200, answer.text
    file = tmp_path / "proof.html"
    file.write_text(answer.text, encoding="utf-8")
    await assert_well_made(browser, file.as_uri())


@pytest.fixture
async def sandbox(tmp_path: Path, elsewhere: Elsewhere) -> AsyncIterator[RunningSandbox]:
    rule = Refuse(recipient="*@bounce.example", name="bounces")
    async with open_sandbox(tmp_path, rule, http_port=0, keeps_bodies=True) as running:
        await with_smtplib(running, lambda client: _mail(client, elsewhere))
        yield running


def _mail(client: smtplib.SMTP, elsewhere: Elsewhere) -> None:
    """Every kind of message: records 1 to 6."""
    letter = EmailMessage()
    letter["Subject"] = "Your invoice"
    letter["Message-ID"] = "<invoice@example.org>"
    letter.set_content("See attached.\n")
    letter.add_alternative("<p>See attached.</p>", subtype="html")
    letter.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="rechnung für 🎉.pdf")
    client.send_message(letter, "news@gardens.example.com", ["ana@example.org"])
    client.sendmail("", [LONG_ADDRESS], f"Subject: {ODD_NAME}\r\n\r\n{ODD_NAME}\r\n".encode())
    hostile = b"Subject: <script>alert(1)</script>\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    client.sendmail("a@example.org", ["hostile@example.org"], hostile + elsewhere.hostile() + b"\r\n")
    client.sendmail("a@example.org", ["bare@example.org"], b"\r\n")
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        client.sendmail("a@example.org", ["gone@bounce.example"], b"\r\n")
    client.sendmail("a@example.org", ["bo@example.org"], b"Subject: plain\r\n\r\nplain\r\n")


def url_of(sandbox: RunningSandbox) -> str:
    assert sandbox.addresses.http is not None
    host, port = sandbox.addresses.http
    return f"http://{host}:{port}"


async def test_the_inbox_and_every_message_are_well_made(browser: Browser, sandbox: RunningSandbox) -> None:
    url = url_of(sandbox)
    pages = [f"{url}/", f"{url}/?rcpt=nobody%40example.org", f"{url}/?live=1"]
    await assert_well_made(browser, *pages, *(f"{url}/inbox/{number}" for number in (1, 2, 4, 5, 6)))


async def test_an_empty_inbox_says_what_to_do(browser: Browser, tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, http_port=0) as empty:
        await assert_well_made(browser, url_of(empty) + "/")
        async with browser.page() as page:
            await page.goto(url_of(empty) + "/")
            assert "Nothing has arrived yet." in await page.ask("document.body.innerText")


async def test_the_inbox_is_filtered_and_a_message_opened_without_script(
    browser: Browser, sandbox: RunningSandbox
) -> None:
    async with browser.page(has_script=False) as page:
        await page.goto(url_of(sandbox) + "/")
        assert await page.ask("document.querySelectorAll('tbody tr').length") == 6
        await page.ask("document.querySelector('#rcpt').value = 'ana@example.org'")
        await page.press("form button")
        assert await page.ask("document.querySelectorAll('tbody tr').length") == 1
        await page.press("td a")
        assert await heading(page) == "Your invoice"
        said = await page.ask("document.querySelector('main').innerText")
        assert "rechnung für 🎉.pdf application/pdf, 4 bytes" in said
        assert "See attached." in said
        await page.press("nav a")
        assert await heading(page) == "Outrider sandbox"


async def test_a_refused_message_shows_the_answer_it_got(browser: Browser, sandbox: RunningSandbox) -> None:
    async with browser.page() as page:
        for path in ("/?rcpt=gone%40bounce.example", "/inbox/5"):
            await page.goto(url_of(sandbox) + path)
            assert "550 " in await page.ask("document.querySelector('main').innerText")


async def test_hostile_html_runs_nothing_and_loads_nothing(
    browser: Browser, sandbox: RunningSandbox, elsewhere: Elsewhere
) -> None:
    async with browser.page() as page:
        for path in ("/inbox/3", "/inbox/3/html"):
            await page.goto(url_of(sandbox) + path)
            assert "owned" not in await page.ask("document.title")
        assert await page.ask("document.querySelector('h1').innerText") == "Hello"
        assert elsewhere.asked == []
        await page.goto(elsewhere.url + "/bare")  # the same bytes without our headers do all of it
        assert await page.ask("document.title") == "owned"
        # that a page has loaded says nothing of what it fetches
        everything = {"/style", "/script", "/fetch", "/picture", "/frame", "/background", "/object"}
        await until(lambda: everything <= set(elsewhere.asked), what="everything was tried")


async def test_the_sandboxes_of_providers_say_what_they_are_to_who_opens_their_address(
    browser: Browser, tmp_path: Path
) -> None:
    texts = TwilioSandbox(TwilioOptions(ledger_path=tmp_path / "texts", port=0))
    emails = ResendSandbox(ResendOptions(ledger_path=tmp_path / "emails", port=0))
    try:
        urls = [await sandbox.start() for sandbox in (texts, emails)]
        for url in urls:
            await assert_well_made(browser, url)
        async with browser.page() as page:
            for url in urls:
                await page.goto(url)
                assert "sends nothing to anybody" in await page.ask("document.querySelector('main').innerText")
                links = await page.ask("[...document.querySelectorAll('a')].map((each) => each.href)")
                for link in links:
                    await page.goto(link)
                    assert await page.ask("document.contentType") == "application/json"
    finally:
        await texts.close()
        await emails.close()
