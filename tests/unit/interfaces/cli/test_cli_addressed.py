"""Which channel an address belongs to when nobody says so."""

from __future__ import annotations

from uuid import UUID

import pytest

from outrider.interfaces.cli.addressed import channel_of


@pytest.mark.parametrize("typed", ["+61412345678", "0412 345 678", " (415) 555-0111 ", "+1.415.555.0111", "12345"])
def test_what_looks_like_a_telephone_number_is_one(typed: str) -> None:
    assert channel_of(typed, None) == "sms"


@pytest.mark.parametrize("typed", ["ann@example.org", "", "ann", "4a", f"{UUID(int=1)}", "+", "٠٤١٢", "1@2"])
def test_everything_else_is_an_email_address(typed: str) -> None:
    assert channel_of(typed, None) == "email"


def test_what_was_named_counts() -> None:
    assert channel_of("+61412345678", "email") == "email"
    assert channel_of("ann@example.org", "sms") == "sms"
