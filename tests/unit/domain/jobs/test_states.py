"""The table of states: the words of both runbooks' libraries mean ours, and nothing else does."""

from __future__ import annotations

import re

import pytest

from outrider.base.errors import Refused
from outrider.domain.jobs.rows import RUNS, SQL
from outrider.domain.jobs.states import ENDED, OPEN, REQUEUEABLE, STATES, state_named


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("Enqueued", "enqueued"), ("Processing", "processing"), ("Succeeded", "succeeded"), ("Failed", "failed"),
        ("Scheduled", "scheduled"), ("Deleted", "deleted"), ("waiting", "enqueued"), ("active", "processing"),
        ("completed", "succeeded"), ("delayed", "scheduled"), (" FAILED ", "failed"), ("Running", "processing"),
    ],
)  # fmt: skip
def test_every_word_of_the_runbooks_means_one_of_our_states(word: str, state: str) -> None:
    assert state_named(word) == state


@pytest.mark.parametrize("word", ["", "done", "failed;", "sent"])
def test_another_word_is_refused_with_those_that_are_known(word: str) -> None:
    with pytest.raises(Refused, match="scheduled, enqueued, processing, succeeded, failed, deleted"):
        state_named(word)


def test_a_job_is_open_or_has_ended_and_only_ended_ones_are_requeued() -> None:
    assert set(OPEN) | set(ENDED) == set(STATES)
    assert not set(OPEN) & set(ENDED)
    assert set(REQUEUEABLE) < set(ENDED)


def test_the_statements_use_these_words_only() -> None:
    said = {
        word
        for statement in (*SQL, *RUNS)
        for found in re.findall(r"state (?:=|IN|<>) \(?((?:'[a-z]+'(?:, )?)+)", statement.sql)
        for word in re.findall(r"'([a-z]+)'", found)
    }
    assert said == set(STATES)
