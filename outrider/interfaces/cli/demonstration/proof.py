"""The proof: the mail server's own ledger against the product's database, recipient by recipient. Pure.

Owns the arithmetic and the verdicts; every number either adds up or is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from outrider.domain.messages.states import END_STATES
from outrider.interfaces.cli.demonstration.ledger import Record
from outrider.interfaces.cli.demonstration.people import People

_WAITING: Final = {"scheduled", "held"}
NS_PER_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Sent:
    """One message of the campaign as the database has it."""

    id: str
    state: str
    code: str | None


@dataclass(frozen=True, slots=True)
class Course:
    """What happened on the way, on CLOCK_BOOTTIME. `in_flight_most`: connections that were open at the kill."""

    paused_ns: int
    resumed_ns: int
    in_flight_most: int
    overtaking_id: str
    overtaken: int
    overtaking_ms: float
    is_restarted: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One figure and whether it is what it must be."""

    name: str
    value: int | float | str
    is_right: bool
    must: str = ""


def prove(
    people: People, imported: Mapping[str, int], messages: Sequence[Sent], records: Sequence[Record], course: Course
) -> list[Line]:
    """Compare everything.

    Takes:   imported: the counts of the import; messages of the campaign; every record of the ledger.
    Gives:   the lines of the report, in its order; the demonstration succeeded when all are right.
    """
    ids = {message.id for message in messages}
    taken = Counter(record.message_id for record in records if record.is_taken and record.message_id in ids)
    states = Counter(message.state for message in messages)
    doubled = sum(count - 1 for count in taken.values() if count > 1)
    return [
        *_imported(people, imported),
        equal("accepted", len(messages), people.contacts, "one message for each person on the list"),
        equal("sent", states["sent"], people.reachable - states["uncertain"], "everybody who may and can be reached"),
        Line(
            "delivered once",
            sum(count == 1 for count in taken.values()),
            is_right=set(taken) >= {message.id for message in messages if message.state == "sent"} and not doubled,
            must="by the mail server's own ledger",
        ),
        *_skipped(people, messages),
        equal("failed", states["failed"], people.gone, "those whose mailbox is gone"),
        equal("waiting for a retry", sum(states[state] for state in _WAITING), 0, "nobody any more"),
        Line(
            "uncertain",
            states["uncertain"],
            is_right=states["uncertain"] <= course.in_flight_most,
            must=f"at most the {course.in_flight_most} in flight at the kill; never sent again by itself",
        ),
        equal("lost", _lost(messages, taken), 0),
        equal("doubled", doubled, 0),
        *_moments(records, ids, course),
    ]


def _imported(people: People, imported: Mapping[str, int]) -> list[Line]:
    return [
        equal("rows in the file", imported["row_count"], people.rows),
        equal("rows refused", imported["rejected_count"], people.bad, "each with line and reason"),
        equal("rows doubled", imported["duplicate_count"], people.doubled),
        equal("people imported", imported["created_count"], people.contacts),
    ]


def _skipped(people: People, messages: Sequence[Sent]) -> list[Line]:
    blocked = Counter(message.code for message in messages if message.state == "blocked")
    return [
        equal("skipped: do not contact", blocked["do_not_contact"], len(people.suppressed)),
        equal("skipped: no consent", blocked["consent"], people.unwilling),
    ]


def _lost(messages: Sequence[Sent], taken: Mapping[str, int]) -> int:
    """Messages that are said to be sent and were never taken, that were taken and are not known to be, or forgotten."""
    lost = 0
    for message in messages:
        is_taken = message.id in taken
        if message.state == "sent":
            lost += not is_taken
        elif message.state in END_STATES:
            lost += is_taken and message.state != "uncertain"
        else:
            lost += message.state not in _WAITING
    return lost


def _moments(records: Sequence[Record], ids: set[str], course: Course) -> list[Line]:
    """Speed, pause, overtaking and restart."""
    moments = sorted(record.boot_ns for record in records if record.is_taken and record.message_id in ids)
    running_ns = moments[-1] - moments[0] - (course.resumed_ns - course.paused_ns) if moments else 0
    rate = len(moments) / (running_ns / 1e9) if running_ns > 0 else 0.0
    late = [moment for moment in moments if course.paused_ns < moment < course.resumed_ns]
    effect_ms = round((late[-1] - course.paused_ns) / NS_PER_MS, 1) if late else 0.0
    overtook = Line(
        "transactional overtook",
        course.overtaken,
        is_right=course.overtaken > 0,
        must=f"campaign messages that were waiting; accepted {course.overtaking_ms:.0f} ms after the API's answer",
    )
    return [
        Line("messages per second", round(rate), is_right=rate > 0, must="while it was sending, on this machine"),
        Line(
            "pause took effect in ms",
            effect_ms,
            is_right=effect_ms <= 1000,  # noqa: PLR2004 - the promise: at most a second
            must=f"from the HTTP answer to the last acceptance; {len(late)} message(s) came after the answer",
        ),
        overtook,
        Line("killed worker", "restarted" if course.is_restarted else "gone", is_right=course.is_restarted),
    ]


def equal(name: str, value: int, wanted: int, must: str = "") -> Line:
    """A figure that must be another one."""
    is_right = value == wanted
    return Line(name, value, is_right, must if is_right else f"must be {wanted}. {must}".strip())
