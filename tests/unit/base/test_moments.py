"""Moments as callers give them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from outrider.base.errors import Refused
from outrider.base.moments import moment


def test_a_moment_with_its_offset_is_taken_and_none_stays_none() -> None:
    given = datetime(2026, 11, 20, 9, tzinfo=timezone(timedelta(hours=14)))
    assert moment(given, "/at") is given
    assert moment(None, "/at") is None


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (datetime(2026, 11, 20, 9), "offset_required"),  # noqa: DTZ001 - the case that is refused
        (datetime.min.replace(tzinfo=UTC), "out_of_range"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), "out_of_range"),
        (datetime.max.replace(tzinfo=timezone(-timedelta(hours=14))), "out_of_range"),
    ],
)
def test_a_moment_that_cannot_be_counted_with_is_refused_by_its_name(given: datetime, code: str) -> None:
    with pytest.raises(Refused) as refused:
        moment(given, "?since")
    assert (refused.value.code, refused.value.field) == (code, "?since")
