from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from outrider.base.errors import Refused
from outrider.interfaces.api.paging import cursor_of, page, read_cursor

_MOMENT = "2026-01-01T00:00:00Z"


def test_a_cursor_gives_back_what_it_was_made_of() -> None:
    assert read_cursor(cursor_of("ann@example.org"), tuple[str]) == ("ann@example.org",)
    assert read_cursor(cursor_of(UUID(int=5), 3), tuple[UUID, int]) == (UUID(int=5), 3)


def test_the_first_page_has_no_cursor() -> None:
    assert read_cursor("", tuple[str]) is None


@pytest.mark.parametrize(
    "text", ["x", "====", "ä", cursor_of(5), cursor_of("a", "b"), cursor_of(None), cursor_of("a\0"), "A" * 5000, "!!!!"]
)
def test_what_is_no_cursor_of_this_list_is_refused(text: str) -> None:
    with pytest.raises(Refused) as caught:
        read_cursor(text, tuple[str])
    assert (caught.value.code, caught.value.field) == ("invalid_cursor", "?cursor")


@pytest.mark.parametrize(
    ("part", "sound", "kind"),
    [
        ("0001-01-01T00:00:00+14:00", _MOMENT, tuple[datetime, str]),
        ("9999-12-31T23:59:59-12:00", _MOMENT, tuple[datetime, str]),
        ("2026-01-01T00:00:00", _MOMENT, tuple[datetime, str]),  # of which zone?
        (2**63, 2**63 - 1, tuple[int, str]),
        (-(2**63), 1 - 2**63, tuple[int, str]),
    ],
)
def test_what_no_column_holds_is_no_cursor(part: Any, sound: Any, kind: Any) -> None:
    with pytest.raises(Refused) as caught:
        read_cursor(cursor_of(part, "a"), kind)
    assert (caught.value.code, caught.value.field) == ("invalid_cursor", "?cursor")
    assert read_cursor(cursor_of(sound, "a"), kind)[1] == "a"


@pytest.mark.parametrize(("items", "cursor"), [([1, 2], "next"), ([1], None), ([], None)])
def test_only_a_full_page_has_a_next_one(items: list[Any], cursor: str | None) -> None:
    assert page(items, 2, "next").next_cursor == cursor
