"""How an address is shown to whoever has the link: its owner knows it, nobody else learns it."""

from __future__ import annotations

import pytest

from outrider.domain.campaigns.unsubscribe import mask


@pytest.mark.parametrize(
    ("address", "shown"),
    [("ann.miller@example.org", "a…@example.org"), ("a@b.co", "a…@b.co"), ("+4915112345678", "…78")],
)
def test_only_the_first_letter_or_the_last_digits_are_shown(address: str, shown: str) -> None:
    assert mask(address) == shown
