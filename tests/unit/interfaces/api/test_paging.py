from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from outrider.base.errors import Refused
from outrider.interfaces.api.paging import cursor_of, page, read_cursor


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
    ("part", "kind"),
    [
        ("0001-01-01T00:00:00+14:00", datetime),
        ("9999-12-31T23:59:59-12:00", datetime),
        ("2026-01-01T00:00:00", datetime),  # of which zone?
        (2**63, int),
        (-(2**63), int),
    ],
)
def test_what_no_column_holds_is_no_cursor(part: Any, kind: type) -> None:
    with pytest.raises(Refused) as caught:
        read_cursor(cursor_of(part, "a"), tuple[kind, str])  # type: ignore[valid-type]  # made for each kind
    assert (caught.value.code, caught.value.field) == ("invalid_cursor", "?cursor")
    earlier = "2026-01-01T00:00:00Z" if kind is datetime else 2**63 - 1
    assert read_cursor(cursor_of(earlier, "a"), tuple[kind, str])[1] == "a"  # type: ignore[valid-type]  # the same


@pytest.mark.parametrize(("items", "cursor"), [([1, 2], "next"), ([1], None), ([], None)])
def test_only_a_full_page_has_a_next_one(items: list[Any], cursor: str | None) -> None:
    assert page(items, 2, "next").next_cursor == cursor
