from __future__ import annotations

from typing import Any

import pytest

from outrider.base.errors import RefusedMany
from outrider.base.fields import Field, check

FIELDS = (
    Field("host", "Where.", is_required=True, longest=10),
    Field("port", "Which.", "integer", default=25, least=1, most=65535),
    Field("share", "How much.", "number", least=0.5),
    Field("is_on", "Whether.", "boolean", default=False),
    Field("tls", "How.", "choice", default="on", choices=("on", "off")),
    Field("password", "Secret.", "secret"),
)


def test_every_field_comes_back_with_what_was_given_or_its_default() -> None:
    assert check(FIELDS, {"host": "a", "share": 1}) == {
        "host": "a", "port": 25, "share": 1, "is_on": False, "tls": "on", "password": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", "x" * 11), ("host", 5), ("host", "a\nb"), ("host", "a\0"), ("host", "a\r"), ("port", "25"),
        ("port", 0), ("port", 65536), ("port", True), ("port", 1.5), ("share", "much"), ("share", 0.4),
        ("share", False), ("share", float("nan")), ("share", float("inf")), ("is_on", 1), ("is_on", "true"),
        ("tls", "maybe"), ("tls", 1), ("password", ["x"]), ("password", "a\nb"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_or_size_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(RefusedMany) as refused:
        check(FIELDS, {"host": "a", name: value})
    (error,) = refused.value.errors
    assert (error.code, error.field) == ("invalid_setting", f"settings.{name}")
    assert "a\nb" not in error.message


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(RefusedMany) as refused:
        check(FIELDS, {"hots": "a", "port": 0}, where="connection")
    assert sorted((error.code, error.field) for error in refused.value.errors) == [
        ("invalid_setting", "connection.port"),
        ("no_such_setting", "connection.hots"),
        ("required", "connection.host"),
    ]


def test_nothing_given_for_a_required_field_is_the_same_as_null() -> None:
    with pytest.raises(RefusedMany) as refused:
        check(FIELDS, {"host": None})
    assert [error.code for error in refused.value.errors] == ["required"]
