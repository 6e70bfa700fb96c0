"""Looking at a page as a person would: wide and narrow, light and dark.

API
    EYES                                              what a person would stumble over, as an expression for a page
    assert_well_made(browser, *urls, status=)         nothing of it on any of these pages
"""

from __future__ import annotations

from pathlib import Path

from tests.kit.browser import Browser

EYES = Path(__file__).with_name("eyes.js").read_text()


async def assert_well_made(browser: Browser, *urls: str, status: int = 200) -> None:
    """Wide and narrow, light and dark: nothing to stumble over, no complaint, no request but to the server itself."""
    for width, is_dark in ((1280, False), (1280, True), (390, True), (320, False)):
        async with browser.page(width=width, height=800, is_dark=is_dark) as page:
            for url in urls:
                await page.goto(url)
                assert await page.ask(EYES) == [], (url, width, is_dark)
                own = "/".join(url.split("/")[:3]) + "/"
                inside = (own, "data:image/")  # a picture that is written in the page is fetched from nowhere
                assert {each for each in page.requests if not each.startswith(inside)} <= {"about:blank"}
        told = [each for each in page.complaints if f"status of {status} " not in each]
        assert told == [], width
