"""Addresses in a content are looked at as a recipient would follow them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from outrider.contracts.channel import Content
from outrider.plugins.channels.email import CHANNEL
from outrider.plugins.channels.email.review import links


def content(html: str | None = None, text: str | None = None) -> Content:
    return Content("k", "s", html, text)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("", "empty_link"),
        ("#", "empty_link"),
        ("/about", "relative_link"),
        ("about.html", "relative_link"),
        ("www.example.org", "relative_link"),
        ("//example.org/x", "relative_link"),
        ("http://localhost:3000/x", "local_link"),
        ("https://127.0.0.1/", "local_link"),
        ("https://app.localhost/", "local_link"),
        ("https://10.1.2.3/x", "private_link"),
        ("https://[fd00::1]/", "private_link"),
        ("https://intranet/x", "private_link"),
        ("https://wiki.corp/", "private_link"),
        ("https://", "invalid_link"),
        ("http://example.org/", "insecure_link"),
        ("file:///etc/passwd", "dead_scheme"),
        ("https://example.org/{{ id }}", None),
        ("{{ url }}", None),
        ("https://{{ host }}/x", None),
        ("mailto:a@example.org", None),
        ("#part", None),
        ("https://example.org", None),
    ],
)
def test_a_link_that_leads_nowhere_is_named(url: str, code: str | None) -> None:
    notes = CHANNEL.review(content(f'<p>a</p>\n<a href="{url}">x</a>'), is_bulk=False)
    assert [(each.code, each.line, each.part) for each in notes] == ([(code, 2, "html")] if code else [])


def test_images_and_text_are_looked_at_too() -> None:
    notes = CHANNEL.review(content('<img src="http://localhost/a.png">', "see\nhttps://10.0.0.1/x."), is_bulk=False)
    assert [(each.code, each.part, each.line, each.url) for each in notes] == [
        ("local_link", "html", 1, "http://localhost/a.png"),
        ("private_link", "text", 2, "https://10.0.0.1/x"),
    ]


def test_an_address_in_the_preheader_is_looked_at() -> None:
    notes = CHANNEL.review(replace(content("<p>a</p>"), preheader="{{ name }}: http://127.0.0.1/x"), is_bulk=False)
    assert [(each.code, each.part, each.url) for each in notes] == [("local_link", "preheader", "http://127.0.0.1/x")]


def test_a_bulk_content_without_a_link_to_unsubscribe_is_told_of_the_footer() -> None:
    bare, shown = content("<p>a</p>"), content('<a href="{{ unsubscribe_url }}">out</a>')
    assert [each.code for each in CHANNEL.review(bare, is_bulk=True)] == ["no_unsubscribe_link"]
    assert CHANNEL.review(shown, is_bulk=True) == CHANNEL.review(bare, is_bulk=False) == []


def test_only_whole_web_addresses_can_be_dialled() -> None:
    urls = ("https://a.example.org/x?a=1&amp;b=2", "https://b.example.org/{{ x }}", "/c")
    html = "".join(f'<a href="{url}">a</a>' for url in urls)
    found = content(html, "https://a.example.org/x?a=1&b=2 mailto:a@b.c https://c.example.org/{{ x }}")
    assert links(found) == ["https://a.example.org/x?a=1&b=2"]
