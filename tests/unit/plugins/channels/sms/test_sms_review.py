"""The links of a text: which of them are the same for everybody, so that they can be tried."""

from __future__ import annotations

import pytest

from outrider.plugins.channels.sms import CHANNEL
from tests.kit.texts import content


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("See https://a.example/x?b=1, or www.b.example.", ["https://a.example/x?b=1", "https://www.b.example"]),
        ("https://a.example https://a.example", ["https://a.example"]),
        ("https://a.example/{{ code }} HTTP://c.example/y!", ["HTTP://c.example/y"]),
        ("https://a.example/{% if b %}x{% endif %}", []),
        ("nothing", []),
    ],
)
def test_only_whole_links_can_be_tried(text: str, urls: list[str]) -> None:
    assert CHANNEL.links(content(text)) == urls


def test_braces_of_a_literal_text_are_no_expressions() -> None:
    assert CHANNEL.links(content("https://a.example/{{ code }}", is_template=False)) == ["https://a.example/"]
