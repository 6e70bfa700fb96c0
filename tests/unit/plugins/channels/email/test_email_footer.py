"""The footer of bulk messages: the way out, and beside it the way to the preference centre, where it is wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from outrider.contracts.channel import Composer, Content, Item
from tests.kit.letters import LINK, assert_is_clean, composer, content, identity, item, part, read, refused, sent
from tests.kit.rendering import InProcessRenderer

CENTRE = "https://mail.tenant.example/p/tok_en-2?a=b&c=d"
ESCAPED = CENTRE.replace("/", "&#x2f;").replace("&c", "&amp;c")
BOTH = pytest.mark.parametrize("is_compiled", [True, False], ids=["slots", "engine"])


def recipient(variables: Any = None, *, link: str = LINK, centre: str = CENTRE) -> Item:
    made = item(variables or {"name": "Ada"}, unsubscribe_url=link)
    made.preferences_url = centre
    return made


async def made_of(of: Content, *, is_compiled: bool = True, is_wanted: bool = True) -> Composer:
    sender = replace(identity(postal_address="1 St"), has_preferences_footer=is_wanted)
    return await composer(of, sender, InProcessRenderer(), is_compiled=is_compiled)


async def parts(made: Composer, who: Item) -> tuple[str, str]:
    (answer,) = await made.compose([who])
    assert_is_clean(sent(answer).body)
    return part(read(answer), "text/html"), part(read(answer), "text/plain")


@BOTH
async def test_both_parts_lead_to_the_preference_centre_beside_the_way_out(*, is_compiled: bool) -> None:
    made = await made_of(content(), is_compiled=is_compiled)
    assert (made.has_preferences, made.has_preferences_footer) == (False, True)
    html, text = await parts(made, recipient())
    assert text == f"Hello Ada\r\n\r\n--\r\nUnsubscribe: {LINK}\r\nChoose what you get: {CENTRE}\r\n1 St\r\n"
    assert f'href="{ESCAPED}" style="color:#666">Choose what you get</a></div></body>' in html
    assert html.index(">Unsubscribe</a>") < html.index(ESCAPED)
    assert await made.page(recipient()) == html.replace("\r\n", "\n")


@BOTH
async def test_the_slots_and_the_engine_make_the_same_footer(*, is_compiled: bool) -> None:
    """Also where values are encoded: a letter outside ASCII in a value, none in the content."""
    made = await made_of(content(), is_compiled=is_compiled)
    html, text = await parts(made, recipient({"name": "Zoë"}))
    assert text == f"Hello Zoë\r\n\r\n--\r\nUnsubscribe: {LINK}\r\nChoose what you get: {CENTRE}\r\n1 St\r\n"
    assert ESCAPED in html


@BOTH
async def test_transactional_messages_and_identities_that_do_not_want_it_show_no_such_link(
    *, is_compiled: bool
) -> None:
    made = await made_of(content(), is_compiled=is_compiled)
    for html, text in (
        await parts(made, recipient(link="", centre="")),
        await parts(made, recipient(link="")),
        await parts(await made_of(content(), is_compiled=is_compiled, is_wanted=False), recipient()),
    ):
        assert "Choose what you get" not in html + text
    unwanted = await made_of(content(), is_compiled=is_compiled, is_wanted=False)
    assert not unwanted.has_preferences_footer
    html, text = await parts(made, recipient(centre=""))
    assert "Unsubscribe" in html
    assert "Choose what you get" not in html + text


@BOTH
async def test_whoever_places_the_links_gets_no_second_ones(*, is_compiled: bool) -> None:
    own = content(
        html="<p><a href='{{ unsubscribe_url }}'>leave</a></p>",
        text="{{ preferences_url }}",
    )
    html, text = await parts(await made_of(own, is_compiled=is_compiled), recipient())
    assert "Choose what you get" not in html
    assert (text.count(CENTRE), text.count(LINK)) == (1, 1)
    whole = content(html="<p><a href='{{ unsubscribe_url }}'>leave</a></p>", text="{{ unsubscribe_url }}")
    assert (await made_of(whole, is_compiled=is_compiled)).has_preferences_footer is not is_compiled


@BOTH
async def test_a_contact_cannot_name_the_preference_centre(*, is_compiled: bool) -> None:
    made = await made_of(content(), is_compiled=is_compiled)
    html, text = await parts(made, recipient({"name": "A", "preferences_url": "https://evil.example"}))
    assert "evil" not in html + text
    (answer,) = await made.compose([recipient(centre="https://evil.example/\r\nBcc: x")])
    assert "preference centre" in refused(answer)


@BOTH
async def test_links_of_ours_escaped_in_a_text_are_escaped(*, is_compiled: bool) -> None:
    own = content(html=None, text="{{ unsubscribe_url|e }} {{ preferences_url|e }}\n{{ preferences_url }}")
    _, text = await text_of(await made_of(own, is_compiled=is_compiled))
    assert text.startswith(f"{LINK.replace('/', '&#x2f;').replace('&c', '&amp;c')} {ESCAPED}\r\n{CENTRE}\r\n")


async def text_of(made: Composer) -> tuple[str, str]:
    (answer,) = await made.compose([recipient()])
    return "", part(read(answer), "text/plain")


@pytest.mark.parametrize("count", [1, 2, 40])
async def test_a_value_that_stands_often_in_a_line_never_makes_it_too_long(count: int) -> None:
    of = content(html=f"<p>{'{{ name }} ' * count}</p>", text="{{ name }} " * count + "\n{{ name }}\n")
    html, text = await parts(await made_of(of), recipient({"name": "x" * 600}))
    assert html.count("x" * 600) == count
    assert text.count("x" * 600) == count + 1
