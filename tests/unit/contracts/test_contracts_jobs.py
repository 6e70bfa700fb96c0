"""Job types that could never run as they say are refused at start; a process without types enqueues nothing."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.base.errors import Misconfigured
from outrider.contracts.jobs import JobType, NoJobs


async def _run(*_arguments: Any) -> None:
    return None


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": 10}, {"priority": -1}, {"timeout_s": 0}, {"timeout_s": 86_401}, {"max_attempts": 0},
        {"max_attempts": 101}, {"retry_first_s": 0}, {"retry_first_s": 700.0},
    ],
)  # fmt: skip
def test_a_number_out_of_range_stops_the_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match="the job type odd"):
        JobType("odd", "Odd", "default", _run, **wrong)


def test_what_a_type_leaves_out_is_the_runbooks_half_hour() -> None:
    assert JobType("plain", "Plain", "default", _run).timeout_s == 1800


async def test_a_process_without_types_enqueues_nothing() -> None:
    with pytest.raises(Misconfigured, match="without job types"):
        await NoJobs().enqueue(None, None, "echo")
