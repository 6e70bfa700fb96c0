"""The demonstration's proof: it adds up for what really happened and names every way in which it could not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from outrider.interfaces.cli.demonstration.ledger import Record
from outrider.interfaces.cli.demonstration.people import People, plan, write
from outrider.interfaces.cli.demonstration.proof import Course, Line, Sent, prove

PEOPLE = People(rows=20, bad=1, doubled=1, unwilling=1, suppressed=("never@example.net",), later=1, gone=1)
IMPORTED = {"row_count": 20, "rejected_count": 1, "duplicate_count": 1, "created_count": 18}
COURSE = Course(
    paused_ns=5_000_000_000, resumed_ns=6_000_000_000, in_flight_most=2, overtaking_id="t", overtaken=7,
    overtaking_ms=3.0, is_restarted=True,
)  # fmt: skip


def _taken(message: str, boot_ns: int = 1_000_000_000) -> Record:
    return Record(1, "accepted", boot_ns, f"{message}@example.net", {"message": message})


def _world() -> tuple[list[Sent], list[Record]]:
    """18 people: 14 sent, 1 uncertain that arrived, 1 gone, 2 skipped."""
    messages = [Sent(str(number), "sent", None) for number in range(14)]
    messages += [Sent("14", "uncertain", "answer_lost"), Sent("15", "failed", "mailbox_unavailable")]
    messages += [Sent("16", "blocked", "do_not_contact"), Sent("17", "blocked", "consent")]
    records = [_taken(str(number), 1_000_000_000 + number * 100_000_000) for number in range(15)]
    records.append(Record(2, "refused", 1_500_000_000, "15@example.net", {"message": "15"}))
    return messages, records


def _wrong(lines: list[Line]) -> set[str]:
    return {line.name for line in lines if not line.is_right}


def test_what_went_as_it_should_adds_up() -> None:
    messages, records = _world()
    lines = prove(PEOPLE, IMPORTED, messages, records, COURSE)
    assert _wrong(lines) == set()
    assert {line.name: line.value for line in lines}["delivered once"] == 15


def test_a_message_said_to_be_sent_that_no_server_took_is_lost() -> None:
    messages, records = _world()
    assert {"lost", "delivered once"} <= _wrong(prove(PEOPLE, IMPORTED, messages, records[1:], COURSE))


def test_a_message_taken_that_is_said_to_have_failed_is_lost() -> None:
    messages, records = _world()
    messages[0] = replace(messages[0], state="failed", code="connection_failed")
    assert {"lost", "failed", "sent"} <= _wrong(prove(PEOPLE, IMPORTED, messages, records, COURSE))


def test_a_message_that_was_forgotten_is_lost() -> None:
    messages, records = _world()
    messages[15] = replace(messages[15], state="queued", code=None)
    assert "lost" in _wrong(prove(PEOPLE, IMPORTED, messages, records, COURSE))


def test_a_message_taken_twice_is_doubled() -> None:
    messages, records = _world()
    assert "doubled" in _wrong(prove(PEOPLE, IMPORTED, messages, [*records, _taken("3")], COURSE))


def test_more_uncertain_than_were_in_flight_is_wrong() -> None:
    messages, records = _world()
    for at in (0, 1):
        messages[at] = replace(messages[at], state="uncertain")
    assert "uncertain" in _wrong(prove(PEOPLE, IMPORTED, messages, records, COURSE))


def test_sending_to_somebody_who_must_not_be_contacted_shows() -> None:
    messages, records = _world()
    messages[16] = Sent("16", "sent", None)
    wrong = _wrong(prove(PEOPLE, IMPORTED, messages, [*records, _taken("16")], COURSE))
    assert {"skipped: do not contact", "sent"} <= wrong


@pytest.mark.parametrize(("after_ms", "wrong"), [(999, set()), (1001, {"pause took effect in ms"})])
def test_a_pause_that_takes_longer_than_a_second_is_wrong(after_ms: int, wrong: set[str]) -> None:
    messages, records = _world()
    course = replace(COURSE, resumed_ns=COURSE.paused_ns + 2_000_000_000)
    late = _taken("13", COURSE.paused_ns + after_ms * 1_000_000)
    lines = prove(PEOPLE, IMPORTED, messages, [*records[:13], late, records[14], records[15]], course)
    assert _wrong(lines) == wrong


def test_a_worker_that_did_not_come_back_and_a_message_that_overtook_nobody_are_wrong() -> None:
    messages, records = _world()
    course = replace(COURSE, is_restarted=False, overtaken=0)
    assert {"killed worker", "transactional overtook"} <= _wrong(prove(PEOPLE, IMPORTED, messages, records, course))


@pytest.mark.parametrize("rows", [500, 4000])
def test_the_file_holds_exactly_the_people_of_the_plan(tmp_path: Path, rows: int) -> None:
    people = plan(rows)
    path = tmp_path / "people.csv"
    write(path, people)
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    assert len(lines) == rows
    addresses = [line.split(",")[0] for line in lines]
    good = [address for address in addresses if address.count("@") == 1 and address.endswith("@example.net")]
    good = [address for address in good if " " not in address and not address.startswith("@")]
    assert len(set(good)) == people.contacts
    assert len(good) - len(set(good)) == people.doubled
    assert set(people.suppressed) <= set(good)
    assert sum("withdrawn" in line for line in lines) == people.unwilling
