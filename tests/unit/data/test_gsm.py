"""How many parts a text comes to: alphabets, extension table, pairs, and the limits of one part and of many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.data.gsm import BASIC, EXTENSION, size_of


def test_the_alphabet_is_that_of_the_standard() -> None:
    assert len(BASIC) == 127  # 128 places, one of which is the escape
    assert len(EXTENSION) == 10
    assert not BASIC & EXTENSION


@pytest.mark.parametrize(
    ("text", "encoding", "segments", "units", "left"),
    [
        ("", "GSM-7", 1, 0, 160),
        ("a" * 160, "GSM-7", 1, 160, 0),
        ("a" * 161, "GSM-7", 2, 161, 145),
        ("a" * 306, "GSM-7", 2, 306, 0),
        ("a" * 307, "GSM-7", 3, 307, 152),
        ("€" * 80, "GSM-7", 1, 160, 0),
        ("€" * 81, "GSM-7", 2, 162, 143),
        # 76 wide characters leave one septet of a part unused: an escape is never cut from what it escapes
        ("€" * 153, "GSM-7", 3, 306, 151),
        ("a" * 152 + "€" + "a" * 151, "GSM-7", 2, 305, 0),
        ("a" * 152 + "€" + "a" * 152, "GSM-7", 3, 306, 152),
        ("я" * 70, "UCS-2", 1, 70, 0),
        ("я" * 71, "UCS-2", 2, 71, 63),
        ("😀" * 35, "UCS-2", 1, 70, 0),
        ("😀" * 36, "UCS-2", 2, 72, 61),
        ("😀" * 67, "UCS-2", 3, 134, 65),
        ("a\nb\r", "GSM-7", 1, 4, 156),
        ("`", "UCS-2", 1, 1, 69),
        ("ç", "UCS-2", 1, 1, 69),
        ("Ç", "GSM-7", 1, 1, 159),
    ],
)
def test_parts_are_counted_as_they_are_billed(text: str, encoding: str, segments: int, units: int, left: int) -> None:
    size = size_of(text)
    assert (size.encoding, size.segments, size.units, size.units_left) == (encoding, segments, units, left)
    assert size.characters == len(text)


def test_what_forces_the_wide_alphabet_is_named_once_each() -> None:
    assert size_of("“Hello” — “you”").odd == "“”—"
    assert size_of("plain").odd == ""
    assert len(size_of("".join(map(chr, range(0x400, 0x450)))).odd) == 10


@given(st.text(alphabet=st.sampled_from("aé€{я😀 "), max_size=700), st.sampled_from("a€я😀"))
def test_a_longer_text_never_costs_less_and_fits_what_is_said_to_fit(text: str, more: str) -> None:
    size, longer = size_of(text), size_of(text + more)
    assert longer.segments >= size.segments
    width = longer.units - size.units
    if longer.encoding == size.encoding and width <= size.units_left:
        assert longer.segments == size.segments
