"""Signing up, confirming and choosing in a browser: the whole way without script, and every page in a tenant's look."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from outrider.domain.tenants import looks
from outrider.domain.tenants.looks import LookChange
from tests.kit.api import TESTER, Api, api_of
from tests.kit.browser import Browser, Page
from tests.kit.dispatch import Post
from tests.kit.looking import EYES, assert_well_made
from tests.kit.signup import Shop, opened

ANN = "ann@example.org"
INTRO = "Once a month what grows, what blooms and what to do about snails.\nNo more than that."
ODD_NAME = "متجر الحدائق & <b>Söhne</b> " + "Gesellschaft" * 3
SHOTS = os.environ.get("TEST_SHOTS")
"""An existing folder for pictures of every page; none are taken without."""


@pytest.fixture
async def api(post: Post) -> AsyncIterator[Api]:
    async with api_of(post.runtime.database_url) as running:
        yield running


async def shop_of(api: Api, post: Post, *titles: str, **form: object) -> Shop:
    return await opened(api, *titles, tenant=(await post.desk()).tenant_id, name=f"Gardens {uuid4()}", **form)


def png(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + bytes(colour) * width
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


async def dressed(shop: Shop, name: str = "Gärtnerei Söhne") -> None:
    """A look of the tenant's own."""
    async with shop.api.app(shop.tenant_id) as uow:
        footer = "Gärtnerei Söhne, Wiesenweg 4, 12345 Blumenstadt\nQuestions? hello@gardens.example"
        await looks.change(uow, TESTER, LookChange(name, "#1b6b3a", "#7fd6a0", footer))
        await looks.set_logo(uow, TESTER, png(120, 48, (27, 107, 58)))


async def heading(page: Page) -> str:
    return str(await page.ask("document.querySelector('h1').innerText"))


async def fill(page: Page, shop: Shop, address: str) -> None:
    """Type and tick as a person does who took ten seconds for it."""
    await page.ask(f"document.querySelector('[name=address]').value = '{address}'")
    await page.ask("document.querySelectorAll('input[type=checkbox]').forEach((each) => { each.checked = true })")
    await page.ask(f"document.querySelector('[name=t]').value = '{shop.token()}'")


async def test_the_whole_way_from_the_form_to_a_choice_without_any_script(
    browser: Browser, api: Api, post: Post
) -> None:
    shop = await shop_of(api, post)
    async with browser.page(width=390, height=844, has_script=False) as page:
        await page.goto(api.url + shop.path)
        assert await heading(page) == "Garden letters"
        await fill(page, shop, ANN)
        await page.press("button")
        assert await heading(page) == "Look into your mailbox"
        (link,) = await shop.links()
        await page.goto(api.url + link)
        assert await heading(page) == "Sign up?"
        assert await shop.contact(ANN) is None
        await page.press("button")
        assert await heading(page) == "Confirmed"
        await page.goto(api.url + await shop.letter(ANN))
        await page.ask("document.querySelectorAll('[name=list]')[0].checked = false")
        await page.press("button[value=save]")
        assert await page.ask("document.querySelector('[role=status]').innerText") == "Saved."
        found = await shop.contact(ANN)
        assert found is not None
        assert (found["on"], found["off"]) == ({"Offers"}, {"News"})
        await page.press("button[value=leave]")
        found = await shop.contact(ANN)
        assert found is not None
        assert found["consent"] == "withdrawn"
        assert page.complaints == []


async def test_the_field_for_programs_is_seen_by_nobody_and_reached_by_no_key(
    browser: Browser, api: Api, post: Post
) -> None:
    shop = await shop_of(api, post)
    async with browser.page() as page:
        await page.goto(api.url + shop.path)
        box = await page.ask("JSON.stringify(document.querySelector('[name=website]').getBoundingClientRect())")
        assert '"x":-' in box
        names = []
        for _ in range(6):
            await page.tab()
            names.append(await page.ask("document.activeElement.name"))
        assert names[:3] == ["address", "list", "list"]
        assert "website" not in names


@pytest.mark.parametrize("is_dressed", [False, True], ids=["plain", "dressed"])
async def test_the_public_pages_are_well_made(browser: Browser, api: Api, post: Post, *, is_dressed: bool) -> None:
    shop = await shop_of(api, post, "Weekly news", "Offers", "Workshops and open days", intro=INTRO, asks_name=True)
    if is_dressed:
        await dressed(shop)
    await shop.fill(ANN, "Weekly news")
    (waiting,) = await shop.links()
    await shop.fill("bob@example.org", "Offers")
    confirmed = (await shop.links())[1]
    await shop.confirm(confirmed)
    await shop.fill("cid@example.org", "Offers")
    refused = (await shop.links())[2]
    await shop.suppress("cid@example.org", "complaint")
    await shop.confirm(refused)
    pages = {
        "form": shop.path,
        "confirm": waiting,
        "confirmed": confirmed,
        "refused": refused,
        "preferences": await shop.letter("bob@example.org"),
        "blocked": await shop.letter("cid@example.org"),
        "unsubscribe": await shop.letter("bob@example.org", "unsubscribe"),
    }
    await assert_well_made(browser, *(api.url + path for path in pages.values()))
    async with browser.page(width=390, height=844, is_dark=True) as page:
        await page.goto(api.url + shop.path)
        await fill(page, shop, "dan@example.org")
        await page.ask("document.querySelector('[name=address]').type = 'text'")
        await page.ask("document.querySelector('[name=address]').value = 'dan'")
        await page.press("button")
        assert "Email:" in await page.ask("document.querySelector('[role=alert]').innerText")
        assert await page.ask(EYES) == []
        await shoot(page, is_dressed, "wrong-390-dark")
        await fill(page, shop, "dan@example.org")
        await page.press("button")
        assert await page.ask(EYES) == []
        await shoot(page, is_dressed, "thanks-390-dark")
    for width, is_dark in ((1280, False), (1280, True), (390, False), (390, True)):
        async with browser.page(width=width, height=844, is_dark=is_dark) as page:
            for name, path in pages.items() if SHOTS else ():
                await page.goto(api.url + path)
                await shoot(page, is_dressed, f"{name}-{width}-{'dark' if is_dark else 'light'}")


async def shoot(page: Page, is_dressed: bool, name: str) -> None:  # noqa: FBT001 - of the test's own parameter
    if SHOTS:
        folder = Path(SHOTS)
        await page.screenshot(folder / f"{'dressed' if is_dressed else 'plain'}-{name}.png", whole=True)


async def test_odd_names_and_long_words_fit(browser: Browser, api: Api, post: Post) -> None:
    title = "Donaudampfschifffahrtsgesellschaftskapitän " * 2
    shop = await shop_of(api, post, title.strip(), "نشرة الأخبار", title=title.strip(), consent_text="x" * 400)
    await dressed(shop, ODD_NAME[:80])
    address = "very." + "long" * 14 + "@" + "department." * 8 + "example.org"
    await shop.fill(address, title.strip())
    (link,) = await shop.links()
    await assert_well_made(browser, *(api.url + each for each in (shop.path, link, await shop.letter(address))))


async def test_links_that_are_none_and_a_closed_form_are_well_made(browser: Browser, api: Api, post: Post) -> None:
    shop = await shop_of(api, post)
    await shop.execute("UPDATE signup_forms SET is_open = false")
    await assert_well_made(
        browser, api.url + shop.path, f"{api.url}/c/{'x' * 64}", f"{api.url}/p/{'x' * 64}", status=404
    )
