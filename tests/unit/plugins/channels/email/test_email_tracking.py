"""Tracked messages: which links are followed, what never is, and that both ways to a message give the same bytes."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from outrider.contracts.channel import Composer, Content, Item, Link, Tracking
from outrider.plugins.channels.email.links import LONGEST_URL, MOST_LINKS
from tests.kit.letters import LINK, composer, content, identity, item, part, read, refused, sent
from tests.kit.rendering import InProcessRenderer

BOTH = Tracking(opens=True, clicks=True)
OPEN = "https://t.example/t/o/OPEN.gif"
HTML = """<html><body>
<a href="https://shop.example/a?x=1&amp;y=2">first</a> <a href='https://shop.example/b'>second</a>
<a href="{{ unsubscribe_url }}">leave</a> <a href="{{ web_version_url }}">look</a> <a href="mailto:a@b.example">m</a>
<a href="#top">t</a> <a href="https://shop.example/{{ code }}?n=1">third</a> <a href="https://{{ host }}/">own</a>
<a data-tracking="off" href="https://shop.example/quiet">q</a> <a href="https://shop.example/a?x=1&amp;y=2">again</a>
<area href=https://shop.example/area><img src="https://shop.example/i.png">
<!-- <a href="https://shop.example/c">c</a> -->
</body></html>"""
GIVEN = {"code": "Ä b", "host": "h.example", "name": "Ada"}


class Addresses(HTMLParser):
    """Addresses of links and images, as a mail program reads them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str | None] = []
        self.images: list[str | None] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in {"a", "area"}:
            self.links.append(given.get("href"))
        elif tag == "img":
            self.images.append(given.get("src"))


def tracked(html: str = HTML, tracking: Tracking = BOTH, **more: Any) -> Content:
    return replace(content(html=html, **more), tracking=tracking)


def addressed(made: Composer, one: Item, base: str = "https://t.example/t/c/") -> Item:
    one.open_url = OPEN
    one.click_urls = tuple(f"{base}{number}?a=1&b='" for number in range(1, len(made.links) + 1))
    return one


async def html_of(made: Composer, one: Item) -> str:
    (answer,) = await made.compose([one])
    return part(read(answer), "text/html")


async def test_links_are_followed_and_what_must_stay_stays() -> None:
    made = await composer(tracked(), identity(), InProcessRenderer())
    one = addressed(made, item(GIVEN, unsubscribe_url=LINK))
    one.web_version_url = "https://t.example/w/1"
    found = Addresses(await html_of(made, one))
    assert [link.url for link in made.links] == [
        "https://shop.example/a?x=1&y=2",
        "https://shop.example/b",
        "https://shop.example/{{ code }}?n=1",
        "https://shop.example/area",
    ]
    first, second, third, area = one.click_urls
    assert found.links == [
        first, second, LINK, "https://t.example/w/1", "mailto:a@b.example", "#top", third, "https://h.example/",
        "https://shop.example/quiet", first, area,
    ]  # fmt: skip
    assert found.images == ["https://shop.example/i.png", OPEN]


async def test_a_link_says_what_it_leads_to_with_its_variables_and_keeps_its_key() -> None:
    made = await composer(tracked(), identity(), InProcessRenderer())
    by_url = {link.url: link for link in made.links}
    assert by_url["https://shop.example/a?x=1&y=2"].parts == ("https://shop.example/a?x=1&y=2",)
    third = by_url["https://shop.example/{{ code }}?n=1"]
    assert third.parts == ("https://shop.example/", (("code",), None), "?n=1")
    other = await composer(tracked('<a href="https://shop.example/b">other text</a>'), identity(), InProcessRenderer())
    assert [link.key for link in other.links] == [by_url["https://shop.example/b"].key]
    assert len({link.key for link in made.links} | {0}) == 5
    # an address in a message sent long ago still says this: how keys are made must never change
    assert other.links == (Link(5475757200316701370, "https://shop.example/b", ("https://shop.example/b",)),)


@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize(
    "variables",
    [
        {"name": "Ada", "code": "x", "host": "h.example"},
        {"name": "Ä" * 1200, "code": "x", "host": "h.example"},
        {"name": "two\nlines", "code": "x", "host": "h.example"},
    ],
)
async def test_both_ways_to_a_message_follow_the_same_constant_links(
    variables: dict[str, Any], *, is_compiled: bool
) -> None:
    html = HTML.replace("</body>", "<p>{{ name }}</p></body>")
    made = await composer(tracked(html), identity(), InProcessRenderer(), is_compiled=is_compiled)
    one = addressed(made, item(variables, unsubscribe_url=LINK))
    found = Addresses(await html_of(made, one))
    by_url = dict(zip([link.url for link in made.links], one.click_urls, strict=True))
    assert found.links[:2] == [by_url["https://shop.example/a?x=1&y=2"], by_url["https://shop.example/b"]]
    third = by_url.get("https://shop.example/{{ code }}?n=1", "https://shop.example/x?n=1")
    assert found.links[6] == third
    assert (third in by_url.values()) is is_compiled, "the engine's variables may be a loop's own"
    assert found.images[-1] == OPEN


async def test_a_value_that_only_the_engine_can_print_keeps_its_link_unfollowed_and_the_others_followed() -> None:
    made = await composer(tracked(), identity(), InProcessRenderer())
    one = addressed(made, item(GIVEN | {"code": 1.5}, unsubscribe_url=LINK))
    found = Addresses(await html_of(made, one))
    assert found.links[0] == one.click_urls[0]
    assert found.links[6] == "https://shop.example/1.5?n=1"


async def test_the_bytes_are_a_function_of_the_item_and_plain_text_keeps_its_addresses() -> None:
    text = "Look: https://shop.example/a"
    made = await composer(tracked(text=text), identity(), InProcessRenderer())
    answers = [(await made.compose([addressed(made, item(GIVEN, unsubscribe_url=LINK))]))[0] for _ in range(2)]
    assert sent(answers[0]).body == sent(answers[1]).body
    assert text in part(read(answers[0]), "text/plain")


async def test_a_long_address_fits_too() -> None:
    made = await composer(tracked(), identity(), InProcessRenderer())
    base = "https://t.example/" + "p" * LONGEST_URL + "/"
    one = addressed(made, item(GIVEN, unsubscribe_url=LINK), base)
    assert Addresses(await html_of(made, one)).links[0] == one.click_urls[0]


@pytest.mark.parametrize("is_compiled", [True, False])
async def test_a_literal_message_is_followed_although_its_braces_mean_nothing(*, is_compiled: bool) -> None:
    html = '<a href="https://shop.example/{{ code }}">x</a>'
    made = await composer(tracked(html, is_template=False), identity(), InProcessRenderer(), is_compiled=is_compiled)
    assert made.links[0].parts == ("https://shop.example/{{ code }}",)
    one = addressed(made, item())
    assert Addresses(await html_of(made, one)).links == [one.click_urls[0]]


async def test_loops_keep_their_own_links_and_constant_ones_inside_are_followed() -> None:
    html = (
        '{% for name in names %}<a href="https://a.example/{{ name }}">x</a>'
        '<a href="https://a.example/">all</a>{% endfor %}'
    )
    made = await composer(tracked(html, text="t", subject="s"), identity(), InProcessRenderer())
    one = addressed(made, item({"names": ["p", "q"]}))
    assert Addresses(await html_of(made, one)).links == [
        "https://a.example/p",
        one.click_urls[0],
        "https://a.example/q",
        one.click_urls[0],
    ]


async def test_the_renderer_never_takes_the_tracked_source_for_the_untracked_one() -> None:
    rendered: dict[str, set[str]] = {}

    class Noting(InProcessRenderer):
        async def render(self, sources: Any, version_key: str, contexts: Any) -> list[dict[str, str] | str]:
            rendered.setdefault(version_key, set()).add(sources["html"])
            return await super().render(sources, version_key, contexts)

    html = '{% if name %}<a href="https://a.example/">x</a>{% endif %}'
    for tracking in (Tracking(), Tracking(opens=True), Tracking(clicks=True), BOTH):
        one = replace(tracked(html, tracking), version_key="k")
        made = await composer(one, identity(), Noting(), is_compiled=False)
        await html_of(made, addressed(made, item({"name": "n"})))
    assert len(rendered) == 4
    assert {len(sources) for sources in rendered.values()} == {1}


@pytest.mark.parametrize(
    ("tracking", "links", "images"),
    [(Tracking(), 0, 1), (Tracking(opens=True), 0, 2), (Tracking(clicks=True), 4, 1)],
)
async def test_what_is_switched_off_leaves_no_trace(tracking: Tracking, links: int, images: int) -> None:
    made = await composer(tracked(tracking=tracking), identity(), InProcessRenderer())
    html = await html_of(made, addressed(made, item(GIVEN, unsubscribe_url=LINK)))
    assert len(made.links) == links
    assert len(Addresses(html).images) == images
    assert "outrider-mark" not in html


async def test_a_missing_variable_of_a_followed_link_stops_the_message_as_it_always_did() -> None:
    made = await composer(tracked(), identity(), InProcessRenderer())
    (answer,) = await made.compose([addressed(made, item({"host": "h.example", "name": "n"}, unsubscribe_url=LINK))])
    assert refused(answer) == "variable 'code' is missing"


async def test_a_tracked_message_without_its_addresses_is_not_sent() -> None:
    made = await composer(tracked(), identity(), InProcessRenderer())
    (answer,) = await made.compose([item(GIVEN, unsubscribe_url=LINK)])
    assert "no tracked addresses" in refused(answer)
    one = addressed(made, item(GIVEN, unsubscribe_url=LINK))
    one.open_url = 'https://t.example/"><script>'
    (answer,) = await made.compose([one])
    assert "not an http address" in refused(answer)


async def test_what_is_beyond_the_most_links_leads_where_it_says() -> None:
    html = "".join(f'<a href="https://a.example/{n}">x</a>' for n in range(MOST_LINKS + 1))
    made = await composer(tracked(html), identity(), InProcessRenderer())
    assert len(made.links) == MOST_LINKS
    found = Addresses(await html_of(made, addressed(made, item({"name": "n"}))))
    assert found.links[-1] == f"https://a.example/{MOST_LINKS}"


async def test_the_footer_stands_before_the_end_and_the_pixel_with_it() -> None:
    made = await composer(tracked("<body><p>x</p></body>"), identity(), InProcessRenderer())
    html = await html_of(made, addressed(made, item({"name": "n"}, unsubscribe_url=LINK)))
    assert re.search(r"<p>x</p><img [^>]+><div .*Unsubscribe</a></div></body>", html, re.DOTALL)


async def test_a_variable_cannot_bring_its_own_address_into_a_mark() -> None:
    made = await composer(tracked("<p>{{ name }}</p>", text="{{ name }}"), identity(), InProcessRenderer())
    html = await html_of(made, addressed(made, item({"name": "outrider-mark-777-" + "x" * 300})))
    assert "outrider-mark-777" in html


@pytest.mark.parametrize("is_compiled", [True, False])
async def test_the_page_of_a_message_is_its_html_with_the_footer_and_untracked_links(*, is_compiled: bool) -> None:
    plain = content(html="<body><a href='https://a.example/'>{{ name }}</a></body>")
    made = await composer(plain, identity(postal_address="Way 1"), InProcessRenderer(), is_compiled=is_compiled)
    shown = await made.page(item({"name": "<Ada>"}, unsubscribe_url=LINK))
    assert isinstance(shown, str)
    assert "&lt;Ada&gt;</a>" in shown
    assert Addresses(shown).links == ["https://a.example/", LINK]
    assert "Way 1" in shown
    nobody = await made.page(item({}, unsubscribe_url=LINK))
    assert not isinstance(nobody, str)


async def test_the_page_of_a_text_is_the_text() -> None:
    made = await composer(content(html=None, text="1 < {{ name }}"), identity(), InProcessRenderer())
    shown = await made.page(item({"name": "2 & 3"}))
    assert isinstance(shown, str)
    assert "1 &lt; 2 &amp; 3" in shown


async def test_only_a_content_that_shows_it_has_a_web_version() -> None:
    with_it = await composer(content(text="{{ web_version_url }}"), identity(), InProcessRenderer())
    without = await composer(content(), identity(), InProcessRenderer())
    assert (with_it.has_web_version, without.has_web_version) == (True, False)
    one = item({"name": "n", "web_version_url": "https://evil.example/"})
    one.web_version_url = "https://t.example/w/1"
    (answer,) = await with_it.compose([one])
    assert part(read(answer), "text/plain").strip() == "https://t.example/w/1"


@pytest.mark.parametrize("text", ["{{ preferences_url }}", "{% if true %}{{ preferences_url }}{% endif %}"])
async def test_the_preference_centre_is_ours_to_name_and_its_link_is_never_followed(text: str) -> None:
    html = f'<html><body><a href="{text}">choose</a> <a href="https://shop.example/">shop</a></body></html>'
    made = await composer(tracked(html, text=text), identity(), InProcessRenderer())
    assert made.has_preferences
    assert [link.url for link in made.links] == ["https://shop.example/"]
    one = addressed(made, item({"name": "n", "preferences_url": "https://evil.example/"}, unsubscribe_url=LINK))
    one.preferences_url = "https://t.example/p/1"
    (answer,) = await made.compose([one])
    assert Addresses(part(read(answer), "text/html")).links[0] == "https://t.example/p/1"
    assert part(read(answer), "text/plain").startswith("https://t.example/p/1")
    assert not (await composer(content(), identity(), InProcessRenderer())).has_preferences
