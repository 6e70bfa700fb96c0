"""Sizes and times as PostgreSQL writes them."""

from __future__ import annotations

import re

import pytest

from outrider.data.server_settings import bytes_of, seconds_of


@pytest.mark.parametrize(
    ("text", "size"),
    [("80MB", 80 << 20), ("1GB", 1 << 30), ("16384kB", 16 << 20), ("256", 256 << 20), (" 1.5 GB ", 3 << 29)],
)
def test_a_size_is_read_in_its_unit_and_without_one_in_the_settings_own(text: str, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize(("text", "seconds"), [("5min", 300), ("30s", 30), ("200ms", 0.2), ("1h", 3600), ("90", 90)])
def test_a_time_is_read_in_its_unit_and_without_one_in_the_settings_own(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "much", "-1", "5 gb", "1GB or so"])
def test_what_is_no_size_is_not_guessed(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        bytes_of(text)
