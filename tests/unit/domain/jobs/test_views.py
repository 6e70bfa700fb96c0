"""Progress as it is shown: a rate from what was done since the run's first word, and when it ends at that rate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from outrider.domain.jobs.views import progress_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def row(**changed: Any) -> dict[str, Any]:
    made = {
        "progress_done": 300, "progress_total": 1000, "progress_note": "rows", "progress_from": 100,
        "progress_since": NOON, "progress_at": NOON + timedelta(seconds=10), "state": "processing",
    }  # fmt: skip
    return {**made, **changed}


def test_a_resumed_job_is_not_credited_with_what_an_earlier_run_did() -> None:
    progress = progress_of(row())
    assert progress is not None
    assert progress.rate_per_s == 20.0
    assert progress.finish_at == NOON + timedelta(seconds=10 + 35)


def test_without_a_word_there_is_no_progress() -> None:
    assert progress_of(row(progress_done=None)) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"progress_total": None},
        {"progress_from": 300},
        {"progress_at": NOON},
        {"state": "failed"},
        {"progress_since": None},
    ],
)
def test_the_end_is_not_estimated_where_it_cannot_be_known(changed: dict[str, Any]) -> None:
    progress = progress_of(row(**changed))
    assert progress is not None
    assert progress.finish_at is None


def test_an_end_beyond_all_calendars_does_not_break_the_list() -> None:
    progress = progress_of(row(progress_total=10**18))
    assert progress is not None
    assert progress.finish_at is not None


def test_more_done_than_there_was_does_not_break_the_list() -> None:
    progress = progress_of(row(progress_done=2**62, progress_total=0, progress_from=2**62 - 1))
    assert progress is not None
    assert progress.finish_at == progress.at
