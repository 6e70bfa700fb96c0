"""Transfer encodings carry every text over a 7-bit path; the standard library decodes them back."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.plugins.channels.email import encoding

TEXT = st.text(
    alphabet=st.one_of(st.sampled_from(list("ab =.\té界🙂\r\n_F")), st.characters(exclude_categories=["Cs"])),
    max_size=400,
)
LINES = TEXT.map(encoding.with_crlf)


def assert_is_safe(encoded: str, longest: int) -> None:
    assert encoded.isascii()
    assert "\r" not in encoded.replace("\r\n", "")
    assert "\n" not in encoded.replace("\r\n", "")
    assert encoding.longest_line(encoded) <= longest


@settings(max_examples=1000, deadline=None)
@given(LINES)
def test_quoted_printable_decodes_to_the_text(text: str) -> None:
    encoded = encoding.quoted_printable(text)
    assert_is_safe(encoded, 76)
    assert quopri.decodestring(encoded).decode() == text
    assert not any(line.endswith((" ", "\t")) for line in encoded.split("\r\n"))


@settings(max_examples=1000, deadline=None)
@given(st.lists(LINES, max_size=5))
def test_pieces_encoded_apart_decode_to_the_whole(pieces: list[str]) -> None:
    encoded = "".join(map(encoding.quoted_printable_piece, pieces))
    assert_is_safe(encoded, 76)
    assert quopri.decodestring(encoded).decode() == "".join(pieces)


@settings(max_examples=300, deadline=None)
@given(LINES)
def test_base64_decodes_to_the_text(text: str) -> None:
    encoded = encoding.base64_lines(text.encode())
    assert_is_safe(encoded, 76)
    assert base64.b64decode(encoded).decode() == text


@settings(max_examples=500, deadline=None)
@given(TEXT, st.integers(0, 1200))
def test_whatever_is_chosen_is_safe(text: str, count: int) -> None:
    whole = encoding.with_crlf(text + "x" * count + "\n")
    chosen = encoding.choose(whole)
    assert_is_safe(encoding.encode(whole, chosen), 998)
    assert (chosen == "7bit") is (whole.isascii() and encoding.longest_line(whole) <= 998)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("plain\r\n", "7bit"),
        ("x" * 998 + "\r\n", "7bit"),
        ("x" * 999 + "\r\n", "quoted-printable"),
        ("Grüße an alle Freunde\r\n", "quoted-printable"),
        ("用户您好\r\n", "base64"),
        ("Здравствуйте\r\n", "base64"),
    ],
)
def test_the_cheapest_encoding_is_chosen(text: str, chosen: str) -> None:
    assert encoding.choose(text) == chosen


def test_every_kind_of_line_end_becomes_crlf() -> None:
    assert encoding.with_crlf("a\nb\rc\r\nd\n\re") == "a\r\nb\r\nc\r\nd\r\n\r\ne"
