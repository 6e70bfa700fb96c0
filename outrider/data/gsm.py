"""How a text travels as SMS: which alphabet it needs, and in how many parts it goes.

Owns the tables of the GSM alphabet and the arithmetic of parts; used by the channel, and by whoever asks for the price
before anything is sent. Never changes a text.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""The basic character set of 3GPP TS 23.038 6.2.1: one septet each."""

EXTENSION: Final = frozenset("\f^{}\\[~]|€")
"""Its extension table 6.2.1.1: an escape before each, so two septets, which one part must hold together."""

_LONE_SEPTETS, _PART_SEPTETS = 160, 153
_LONE_UNITS, _PART_UNITS = 70, 67
"""What fits into one part, and into each part of a longer text: six octets tell how parts belong together."""


class Size(NamedTuple):
    """What a text comes to: `units` are septets (GSM-7) or UTF-16 code units (UCS-2), `odd` what forces UCS-2."""

    encoding: Literal["GSM-7", "UCS-2"]
    segments: int
    units: int
    units_left: int
    """How many more fit before another part is needed."""
    characters: int
    odd: str = ""
    """The characters outside the GSM alphabet, each once, at most ten."""


def size_of(text: str) -> Size:
    """Count the parts of a text; an empty one is one part, as providers send and bill it.

    Source:  3GPP TS 23.038 6.2, 23.040 9.2.3.24.1.
    """
    odd = "".join(dict.fromkeys(c for c in text if c not in BASIC and c not in EXTENSION))[:10]
    if odd:
        widths = [2 if ord(character) > 0xFFFF else 1 for character in text]  # noqa: PLR2004 - a surrogate pair
        segments, left = _parts(widths, _LONE_UNITS, _PART_UNITS)
        return Size("UCS-2", segments, sum(widths), left, len(text), odd)
    widths = [2 if character in EXTENSION else 1 for character in text]
    segments, left = _parts(widths, _LONE_SEPTETS, _PART_SEPTETS)
    return Size("GSM-7", segments, sum(widths), left, len(text))


def _parts(widths: list[int], lone: int, part: int) -> tuple[int, int]:
    """How many parts, and what is left of the last; a wide character is never cut in two."""
    total = sum(widths)
    if total <= lone:
        return 1, lone - total
    count, used = 1, 0
    for width in widths:
        if used + width > part:
            count, used = count + 1, 0
        used += width
    return count, part - used
