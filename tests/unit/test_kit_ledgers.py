"""The drills' checker: each invariant, broken once by hand, is the one that is reported; a clean run has none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest

from tests.kit.ledgers import Acceptance, Evidence, Message, Waiting, i5_nothing_after, i11_no_lease_is_forgotten
from tests.kit.ledgers import violations as found_by

TENANT, CAMPAIGN = UUID(int=1), UUID(int=2)
FIRST, SECOND, THIRD = UUID(int=11), UUID(int=12), UUID(int=13)
STRANGER = UUID(int=99)


def clean() -> Evidence:
    """Two messages of a campaign that were sent, one that is uncertain and was taken."""
    states = {FIRST: "sent", SECOND: "sent", THIRD: "uncertain"}
    messages = {
        each: Message(each, TENANT, 1, CAMPAIGN, UUID(int=each.int + 100), f"{each.int}@example.com", state, "")
        for each, state in states.items()
    }
    return Evidence(
        acknowledged=[FIRST, SECOND],
        acceptances=[Acceptance(each, f"{each.int}@example.com", 1_000, is_answered=True) for each in states],
        messages=messages,
        row_count=3,
        queue={},
        doubtful={THIRD},
        recipients={CAMPAIGN: [FIRST, SECOND, THIRD]},
        counted=Counter({(1, "accepted"): 3, (1, "sent"): 2, (1, "uncertain"): 1}),
    )


def is_lost(evidence: Evidence) -> None:
    evidence.acknowledged.append(STRANGER)


def is_acknowledged_twice(evidence: Evidence) -> None:
    evidence.acknowledged.append(FIRST)


def is_still_queued(evidence: Evidence) -> None:
    evidence.queue[FIRST] = Waiting(FIRST, 0, None, 0.0)


def is_held_without_reason(evidence: Evidence) -> None:
    evidence.messages[FIRST] = replace(evidence.messages[FIRST], state="queued")
    evidence.queue[FIRST] = Waiting(FIRST, 5, None, 0.0)
    evidence.acceptances.pop(0)
    evidence.counted[1, "sent"] -= 1


def is_not_listed_as_uncertain(evidence: Evidence) -> None:
    evidence.doubtful.clear()


def is_unknown(evidence: Evidence) -> None:
    evidence.acceptances.append(Acceptance(STRANGER, "x@example.com", 1_000, is_answered=True))


def is_taken_and_called_failed(evidence: Evidence) -> None:
    evidence.messages[FIRST] = replace(evidence.messages[FIRST], state="failed")
    evidence.counted.update({(1, "sent"): -1, (1, "failed"): 1})


def is_called_sent_and_was_not(evidence: Evidence) -> None:
    evidence.acceptances.pop(0)


def is_sent_twice(evidence: Evidence) -> None:
    evidence.acceptances.append(evidence.acceptances[0])


def is_sent_to_one_address_twice(evidence: Evidence) -> None:
    evidence.messages[FIRST] = replace(evidence.messages[FIRST], address=evidence.messages[SECOND].address)


def is_sent_to_one_contact_twice(evidence: Evidence) -> None:
    evidence.messages[FIRST] = replace(evidence.messages[FIRST], contact_id=evidence.messages[SECOND].contact_id)


def is_no_recipient(evidence: Evidence) -> None:
    evidence.recipients[CAMPAIGN].remove(FIRST)


def is_counted_wrongly(evidence: Evidence) -> None:
    evidence.counted[1, "sent"] += 1


@pytest.mark.parametrize(
    ("breaking", "invariant"),
    [
        (is_lost, "I1"),
        (is_acknowledged_twice, "I1"),
        (is_still_queued, "I2"),
        (is_held_without_reason, "I2"),
        (is_not_listed_as_uncertain, "I2"),
        (is_unknown, "I3"),
        (is_taken_and_called_failed, "I3"),
        (is_called_sent_and_was_not, "I3"),
        (is_sent_twice, "I4"),
        (is_sent_to_one_address_twice, "I7"),
        (is_sent_to_one_contact_twice, "I7"),
        (is_no_recipient, "I7"),
        (is_counted_wrongly, "I8"),
    ],
)
def test_what_is_broken_is_what_is_reported(breaking: Callable[[Evidence], None], invariant: str) -> None:
    evidence = clean()
    breaking(evidence)
    found = found_by(evidence, uncertain=1)
    assert {each.partition(":")[0] for each in found} == {invariant}, found


def test_a_clean_run_has_no_violation_and_bounds_are_bounds() -> None:
    assert found_by(clean(), uncertain=1) == []
    assert found_by(clean(), uncertain=0) == ["I2: 1 messages are uncertain, at most 0 can be"]
    twice = clean()
    is_sent_twice(twice)
    assert found_by(twice, uncertain=1, duplicates=1) == []


def test_acceptances_after_a_stop_are_reported_beyond_the_grace_only() -> None:
    taken = [Acceptance(FIRST, "a@example.com", 1_900_000_000, is_answered=True)]
    assert i5_nothing_after(taken, 1_000_000_000, grace_s=1) == []
    assert i5_nothing_after(taken, 800_000_000, grace_s=1) == [
        "I5: 1 acceptances more than 1 s after the stop, the last 1.100 s after it"
    ]


def test_a_lease_that_is_over_is_reported_when_it_is_over_for_too_long() -> None:
    evidence = clean()
    evidence.queue[FIRST] = Waiting(FIRST, 1, None, 3.0)
    assert i11_no_lease_is_forgotten(evidence, overdue_s=5.0) == []
    assert len(i11_no_lease_is_forgotten(evidence, overdue_s=2.0)) == 1
    assert len(i11_no_lease_is_forgotten(evidence, overdue_s=None)) == 1
