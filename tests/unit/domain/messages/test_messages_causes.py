"""Causes in words: nothing that is over is said to go on, and only causes have any."""

from __future__ import annotations

import pytest

from outrider.contracts.outcome import CAUSES
from outrider.domain.messages import causes

PROMISES = ("retried by itself", "messages wait")


@pytest.mark.parametrize("code", sorted(CAUSES))
@pytest.mark.parametrize("state", ["scheduled", "queued", "held", "uncertain", "deferred"])
def test_what_is_open_has_its_cause_word_for_word(code: str, state: str) -> None:
    cause = CAUSES[code]
    assert causes.view(code, state) == causes.CauseView(code, cause.title, cause.why, cause.remedy)


@pytest.mark.parametrize("code", sorted(CAUSES))
@pytest.mark.parametrize("state", ["failed", "bounced"])
def test_what_is_over_is_not_said_to_be_repeated(code: str, state: str) -> None:
    found = causes.view(code, state)
    assert found is not None
    assert found.remedy
    assert not any(promise in found.remedy for promise in PROMISES)
    if any(promise in CAUSES[code].remedy for promise in PROMISES):
        assert "send it again" in found.remedy


def test_what_is_left_to_do_stays_when_a_message_is_over() -> None:
    found = causes.view("connection_failed", "failed")
    assert found is not None
    assert found.remedy.startswith(f"{CAUSES['connection_failed'].remedy}; ")
    settled = causes.view("answer_lost", "failed")
    assert settled is not None
    assert "outrider uncertain" not in settled.remedy, "nobody finds it there"


@pytest.mark.parametrize("code", [None, "", "consent", "quiet_hours: until 08:00", 7, ["poison"], {"a": 1}])
def test_what_is_no_cause_has_no_words(code: object) -> None:
    assert causes.view(code, "failed") is None
    assert causes.of_event("failed", {"cause": code}) is None


def test_a_reason_is_a_cause_only_where_an_account_holds_its_messages() -> None:
    held = causes.of_event("held", {"reason": "authentication_failed", "detail": "535"})
    assert held is not None
    assert held.title == "Authentication failed"
    assert causes.of_event("resent", {"reason": "authentication_failed"}) is None
    assert causes.of_event("held", {"reason": "warm_up: day 3 of 14"}) is None
    assert causes.of_event("sent", {}) is None
