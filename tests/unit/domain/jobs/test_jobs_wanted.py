"""A filter of jobs as people write it: three vocabularies, `name=value`, moments with their offset."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from outrider.base.errors import Refused
from outrider.domain.jobs.wanted import MOST_VALUES, argument_of, moment_of, wanted


def test_nothing_asked_for_is_no_filter() -> None:
    found = wanted(text="", since="", until=None)
    assert [getattr(found, name) for name in found.__dataclass_fields__] == [None] * 8


def test_states_are_read_in_every_vocabulary() -> None:
    assert wanted(states=["Failed", "waiting", "active", "SUCCEEDED"]).states == [
        "failed", "enqueued", "processing", "succeeded",
    ]  # fmt: skip
    with pytest.raises(Refused) as refused:
        wanted(states=["lost"], prefix="--")
    assert (refused.value.code, refused.value.field) == ("unknown_state", "--state")


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        ([], None),
        (["n=5"], {"n": 5}),
        (['n="5"'], {"n": "5"}),
        (["id=0190ab"], {"id": "0190ab"}),
        (["is_dry=true", "name=a=b"], {"is_dry": True, "name": "a=b"}),
        (["empty="], {"empty": ""}),
        (["list=[1,2]"], {"list": [1, 2]}),
    ],
)
def test_a_value_that_is_json_is_meant_as_such(pairs: list[str], found: object) -> None:
    assert argument_of(pairs, field="?argument") == found


@pytest.mark.parametrize("pairs", [["n"], ["=5"], ["n=1", "n=2"], ["n=" + "x" * 500], ["n=" + "[" * 400]])
def test_what_is_no_argument_is_refused_or_taken_as_text(pairs: list[str]) -> None:
    if pairs[0].startswith("n=["):
        assert argument_of(pairs, field="?argument") == {"n": "[" * 400}
        return
    with pytest.raises(Refused, match="name=value"):
        argument_of(pairs, field="?argument")


def test_a_moment_needs_its_offset() -> None:
    assert moment_of("2026-11-20T09:00:00Z", "?since") == datetime(2026, 11, 20, 9, tzinfo=UTC)
    for text in ("2026-11-20T09:00:00", "yesterday", "1763629200"):
        with pytest.raises(Refused, match="with its offset"):
            moment_of(text, "?since")


def test_values_are_bounded() -> None:
    with pytest.raises(Refused, match="at most"):
        wanted(types=["t"] * (MOST_VALUES + 1))


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:00-12:00"])
def test_a_moment_that_is_in_no_year_of_utc_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        moment_of(text, "?since")
    assert (refused.value.code, refused.value.field) == ("invalid_moment", "?since")
