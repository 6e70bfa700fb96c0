"""By what a callback is known again: its key, however long that is."""

from __future__ import annotations

from outrider.contracts.callbacks import Unread
from outrider.domain.callbacks.take import key_of


def test_a_key_stays_as_it_is_and_a_long_one_stays_different_from_others() -> None:
    assert key_of(Unread("SM1:sent", "sent")) == "SM1:sent"
    assert key_of(Unread("k" * 200, "sent")) == "k" * 200
    one, other = key_of(Unread("k" * 300 + "1", "sent")), key_of(Unread("k" * 300 + "2", "sent"))
    assert one != other
    assert len(one) == len(other) == 200
    assert one == key_of(Unread("k" * 300 + "1", "other"))
    assert len(key_of(Unread("\ud800" * 300, "sent"))) == 200
