"""Counts of a campaign from two reads that are two snapshots, and the one table of states."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.domain.messages.counts import by_state, details
from outrider.domain.messages.states import END_STATES, HELD, LEASED, QUEUE_WORDS, READY, SCHEDULED, STATES

TENANT, CAMPAIGN = UUID(int=1), UUID(int=2)
QUEUE_STATES = (READY, LEASED, SCHEDULED, HELD)


class Raw:
    """Answers the three questions in their order."""

    def __init__(self, rollups: list[tuple[str, str, int]], queue: dict[int, int]) -> None:
        self.answers: list[list[dict[str, Any]]] = [
            [{"id": 1}],
            [{"state": state, "code": code, "n": n} for state, code, n in rollups],
            [{"state": state, "n": n} for state, n in queue.items()],
        ]

    async def fetch(self, _sql: str, *_args: Any) -> list[dict[str, Any]]:
        return self.answers.pop(0)


async def counted(rollups: list[tuple[str, str, int]], queue: dict[int, int]) -> dict[str, int]:
    return by_state(await details(cast("asyncpg.Connection", Raw(rollups, queue)), TENANT, CAMPAIGN))


async def test_what_is_open_is_what_was_accepted_and_has_not_ended() -> None:
    found = await counted([("accepted", "", 10), ("sent", "", 4), ("failed", "x", 1)], {READY: 2, LEASED: 2, HELD: 1})
    assert found == {"sent": 4, "failed": 1, "queued": 2, "sending": 2, "held": 1}


async def test_what_ended_between_the_two_reads_is_still_queued_and_nothing_is_counted_twice() -> None:
    assert await counted([("accepted", "", 5), ("sent", "", 2)], {LEASED: 1}) == {"sent": 2, "sending": 1, "queued": 2}


async def test_what_was_resent_between_the_two_reads_does_not_make_more_than_were_accepted() -> None:
    assert await counted([("accepted", "", 3), ("uncertain", "x", 2)], {READY: 1, LEASED: 2}) == {
        "uncertain": 2,
        "sending": 1,
    }


async def test_a_campaign_that_is_through_is_not_looked_for_in_the_queue() -> None:
    raw = Raw([("accepted", "", 2), ("sent", "", 2)], {READY: 99})
    assert by_state(await details(cast("asyncpg.Connection", raw), TENANT, CAMPAIGN)) == {"sent": 2}
    assert len(raw.answers) == 1


@given(
    st.integers(0, 50),
    st.lists(st.tuples(st.sampled_from(END_STATES), st.sampled_from(["", "x"]), st.integers(1, 9)), max_size=6),
    st.dictionaries(st.sampled_from(QUEUE_STATES), st.integers(0, 60)),
)
async def test_counts_add_up_to_what_was_accepted_whatever_the_second_read_says(
    waiting: int, ended: list[tuple[str, str, int]], queue: dict[int, int]
) -> None:
    accepted = waiting + sum(n for _state, _code, n in ended)
    found = await counted([("accepted", "", accepted), *ended], queue)
    assert sum(found.values()) == accepted
    assert all(n > 0 for n in found.values())


def test_every_state_says_what_it_means_and_who_watches_over_it() -> None:
    for name, state in STATES.items():
        assert state.name == name
        assert state.meaning
        assert state.watchdog


@pytest.mark.parametrize("state", QUEUE_STATES)
def test_a_row_of_the_queue_is_an_open_message(state: int) -> None:
    assert not STATES[QUEUE_WORDS[state]].is_end
    assert QUEUE_WORDS[state] not in END_STATES


def test_what_is_not_in_the_queue_has_ended() -> None:
    assert set(STATES) == set(END_STATES) | set(QUEUE_WORDS.values())
