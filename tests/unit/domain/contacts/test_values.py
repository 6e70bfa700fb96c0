"""What the fields of a contact may hold."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.base.errors import Refused
from outrider.domain.contacts import values


@pytest.mark.parametrize(
    "name",
    ["=HYPERLINK(1)", "+1", "-x", "@x", "<script>alert(1)</script>", "{{7*7}}", "{% raw %}", "Zoë Ödön", "例 子"],
)
def test_a_name_that_is_only_odd_is_kept_as_it_is(name: str) -> None:
    assert values.check_name(name) == name


def test_unusual_line_ends_in_a_name_become_spaces() -> None:
    assert values.check_name(" a\u2028b\x85c ") == "a b c"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("=?utf-8?q?x=0D=0ABcc:_v=40e.co?=", "encoded_word"),
        ("a\r\nBcc: b", "control_character"),
        ("a\0b", "control_character"),
        ("\ud800", "control_character"),
        ("x" * 201, "field_too_long"),
    ],
)
def test_a_name_that_a_header_could_not_carry_is_refused(name: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        values.check_name(name)
    assert (refused.value.code, refused.value.field) == (code, "/name")


def _nested(depth: int) -> dict[str, Any]:
    """An object in an object …, `depth` of them."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("attributes", "code", "field"),
    [
        (_nested(7), "too_deep", "/attributes/a/a/a/a/a/a"),
        (_nested(100), "too_deep", "/attributes/a/a/a/a/a/a"),
        ({"a": "x" * 10_001}, "field_too_long", "/attributes/a"),
        ({f"k{n}": "x" * 9_000 for n in range(2)}, "too_large", "/attributes"),
        ({f"k{n}": 1 for n in range(201)}, "too_large", "/attributes"),
        ({"a": float("nan")}, "invalid_number", "/attributes/a"),
        ({"a": float("inf")}, "invalid_number", "/attributes/a"),
        ({"a": 2**53 + 1}, "invalid_number", "/attributes/a"),
        ({"a": ["x", "\0"]}, "control_character", "/attributes/a/1"),
        ({"__proto__": 1}, "invalid_key", "/attributes"),
        ({"first name": 1}, "invalid_key", "/attributes"),
        ({"a.b": 1}, "invalid_key", "/attributes"),
        ({"": 1}, "invalid_key", "/attributes"),
        ({"a": object()}, "invalid_value", "/attributes/a"),
    ],
)
def test_attributes_beyond_what_templates_and_database_hold_are_refused(
    attributes: dict[str, Any], code: str, field: str
) -> None:
    with pytest.raises(Refused) as refused:
        values.check_attributes(attributes)
    assert (refused.value.code, refused.value.field) == (code, field)


def test_attributes_within_the_limits_are_given_back_unchanged() -> None:
    attributes = {"city": "Bonn\nBeuel", "age": 42, "tags": ["a", {"b": None}], "vip": True, "deep": _nested(5)}
    assert values.check_attributes(attributes) is attributes


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "Europe/London\0", "europe/london", "Factory"])
def test_a_time_zone_is_looked_up_in_the_list_and_never_as_a_path(zone: str) -> None:
    with pytest.raises(Refused):
        values.check_timezone(zone)


def test_known_time_zones_locales_and_purposes_pass() -> None:
    assert values.check_timezone(" Europe/Berlin ") == "Europe/Berlin"
    assert values.check_locale("pt_BR") == "pt-BR"
    assert values.check_timezone("") is None
    assert values.check_locale(None) is None
    assert values.check_purpose("news-letters") == "news-letters"


@pytest.mark.parametrize("locale", ["x", "deutsch", "de-", "de--DE", "../x", "de-DE-\n"])
def test_a_locale_that_is_no_language_tag_is_refused(locale: str) -> None:
    with pytest.raises(Refused):
        values.check_locale(locale)


@pytest.mark.parametrize("purpose", ["", "Marketing", "a b", "x" * 41, "1st"])
def test_a_purpose_is_one_plain_word(purpose: str) -> None:
    with pytest.raises(Refused):
        values.check_purpose(purpose)
