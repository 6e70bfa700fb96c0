"""Looks: colours that can be read, pictures that are small pictures."""

from __future__ import annotations

import struct

import pytest

from outrider.base.errors import Refused
from outrider.domain.tenants import looks
from outrider.domain.tenants.looks import NIGHT, PAPER


def png(width: int, height: int, *, size: int = 100) -> bytes:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">II", width, height)
    return head.ljust(size, b"\0")


def jpeg(width: int, height: int) -> bytes:
    other = b"\xff\xe0" + struct.pack(">H", 16) + b"\0" * 14
    frame = b"\xff\xc0" + struct.pack(">HBHH", 17, 8, height, width) + b"\0" * 10
    return b"\xff\xd8" + other + frame


@pytest.mark.parametrize(
    ("one", "other", "ratio"), [("#000000", "#ffffff", 21.0), ("#ffffff", "#ffffff", 1.0), ("#777777", "#ffffff", 4.48)]
)
def test_contrast_is_that_of_the_standard(one: str, other: str, ratio: float) -> None:
    assert looks.contrast(one, other) == pytest.approx(ratio, abs=0.01)
    assert looks.contrast(other, one) == looks.contrast(one, other)


@pytest.mark.parametrize(
    ("colour", "ground", "code"),
    [
        ("#777777", PAPER, "low_contrast"),
        ("#ffff00", PAPER, "low_contrast"),
        ("#1a56c4", NIGHT, "low_contrast"),
        ("red", PAPER, "invalid_colour"),
        ("#abc", PAPER, "invalid_colour"),
        ("#1a56c4;}body{display:none", PAPER, "invalid_colour"),
        ("#1a56c4\n", PAPER, ""),
        ("#1A56C4", PAPER, ""),
        ("#86bff7", NIGHT, ""),
        ("", NIGHT, ""),
    ],
)
def test_a_colour_is_one_and_can_be_read_on_its_ground(colour: str, ground: str, code: str) -> None:
    if not code:
        assert looks._colour(colour, ground, "/colour") == colour.strip().lower()
        return
    with pytest.raises(Refused) as refused:
        looks._colour(colour, ground, "/colour")
    assert (refused.value.code, refused.value.field) == (code, "/colour")


@pytest.mark.parametrize(
    ("picture", "kind"), [(png(1, 1), "image/png"), (png(1600, 1600), "image/png"), (jpeg(120, 40), "image/jpeg")]
)
def test_the_kind_of_a_picture_is_told_by_its_own_bytes(picture: bytes, kind: str) -> None:
    assert looks._kind_of(picture) == kind


@pytest.mark.parametrize(
    ("picture", "code"),
    [
        (png(1601, 10), "invalid_logo"),
        (png(0, 10), "invalid_logo"),
        (png(30_000, 30_000), "invalid_logo"),
        (png(1, 1, size=65_537), "too_large"),
        (jpeg(5_000, 1), "invalid_logo"),
        (b"\xff\xd8\xff\xe0\x00\x00", "invalid_logo"),
        (b"\xff\xd8\xff" + b"\xff" * 500, "invalid_logo"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "invalid_logo"),
        (b"GIF89a" + b"\0" * 50, "invalid_logo"),
        (b"", "invalid_logo"),
    ],
)
def test_what_is_no_small_picture_is_refused(picture: bytes, code: str) -> None:
    with pytest.raises(Refused) as refused:
        looks._kind_of(picture)
    assert refused.value.code == code
