from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.contracts import backoff
from outrider.contracts.backoff import QUARTER_HOUR_S, delay_s
from outrider.contracts.outcome import CAUSES, Retry, told_late

ATTEMPTS = st.integers(1, 10_000)
REPEATED: tuple[Retry, ...] = ("schedule", "quarter_hour", "wait")


@given(ATTEMPTS)
def test_what_must_never_be_repeated_has_no_delay(attempt: int) -> None:
    assert delay_s(attempt, "never", first_s=30, most_s=3600, asked_s=5) is None
    assert delay_s(attempt, "by_hand", first_s=30, most_s=3600, asked_s=5) is None


@given(ATTEMPTS)
def test_no_delay_is_longer_than_a_ceiling_that_doubles_up_to_the_most(attempt: int) -> None:
    delay = delay_s(attempt, "schedule", first_s=30, most_s=3600)
    assert delay is not None
    assert 0 <= delay <= min(3600, 30 * 2 ** (attempt - 1))


@given(ATTEMPTS, st.floats(0, 1e5))
def test_never_sooner_than_the_server_asked(attempt: int, asked_s: float) -> None:
    for retry in REPEATED:
        delay = delay_s(attempt, retry, first_s=1, most_s=60, asked_s=asked_s)
        assert delay is not None
        assert delay >= min(asked_s, 86_400.0)


@given(ATTEMPTS)
def test_a_connection_timeout_is_not_repeated_before_a_quarter_of_an_hour(attempt: int) -> None:
    delay = delay_s(attempt, "quarter_hour", first_s=1, most_s=60)
    assert delay is not None
    assert QUARTER_HOUR_S <= delay <= QUARTER_HOUR_S * 1.2


@pytest.mark.parametrize("asked_s", [math.inf, math.nan, -math.inf, 1e300, -5.0])
def test_a_servers_nonsense_never_becomes_a_time_that_the_database_cannot_hold(asked_s: float) -> None:
    for retry in REPEATED:
        delay = delay_s(1, retry, first_s=1, most_s=60, asked_s=asked_s)
        assert delay is not None
        assert 0 <= delay <= 86_400


@pytest.mark.parametrize("attempt", [1, 3, 5, 8, 100])
def test_what_failed_together_comes_back_spread_evenly_over_the_whole_time(
    attempt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "random", random.Random(7))  # noqa: S311 - repeatable
    ceiling = min(3600, 30 * 2 ** (attempt - 1))
    delays = [delay_s(attempt, "schedule", first_s=30, most_s=3600) or 0.0 for _ in range(4000)]
    tenths = Counter(min(9, int(10 * delay / ceiling)) for delay in delays)
    assert all(300 < tenths[tenth] < 500 for tenth in range(10)), tenths


def test_every_cause_is_filed_under_its_code_and_says_what_to_do() -> None:
    for code, cause in CAUSES.items():
        assert cause.code == code
        assert cause.title
        assert cause.why
        assert cause.remedy
        assert cause.retry in {"never", "by_hand", "schedule", "quarter_hour", "wait"}


def test_what_is_told_of_a_message_that_was_taken_never_promises_that_it_is_repeated() -> None:
    for code in CAUSES:
        late = CAUSES[told_late(code)]
        assert late.retry in {"never", "by_hand"}
        assert "retried by itself" not in late.remedy
        assert "wait" not in late.remedy
        assert told_late(late.code) == late.code
    assert told_late("queue_overflow") == "queue_overflow_late"
    assert told_late("rate_limited") == told_late("provider_down") == "dropped_by_provider"
    assert told_late("number_invalid") == "number_invalid"


def test_only_causes_of_mail_servers_speak_of_smtp() -> None:
    of_smtp = {"connection_failed", "connection_timeout", "smtputf8_unsupported", "protocol_error"}
    assert {code for code, cause in CAUSES.items() if "SMTP" in f"{cause.title} {cause.why} {cause.remedy}"} == of_smtp
