from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from outrider.contracts.gate import Lane
from outrider.contracts.outcome import Accepted, Deferred, Outcome, Rejected, Uncertain, Unsent
from outrider.contracts.provider import Outgoing
from outrider.domain.limits.charges import Cost, Dates, Payer
from outrider.engine.dispatch import batch as batches
from outrider.engine.dispatch.batch import (
    LEASE_MARGIN_S,
    LONGEST_UNASKED_S,
    Batch,
    BatchWatch,
    Claimed,
    Money,
    just_claimed,
)
from outrider.engine.dispatch.board import Board
from outrider.engine.dispatch.journal import Journal

LANE = Lane(UUID(int=1), 7, "email", UUID(int=2), None, "bulk")
ONE, TWO = UUID(int=11), UUID(int=12)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class StubJournal:
    """Remembers what was written; `order` is shared with whoever else acts."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, UUID, Outcome | None]] = []

    def begun(self, token: int, message_id: UUID) -> None:
        assert token == 5
        self.lines.append(("begun", message_id, None))

    def outcome(self, token: int, message_id: UUID, outcome: Outcome) -> None:
        assert token == 5
        self.lines.append(("outcome", message_id, outcome))


class Scene:
    """A batch of two messages, a board, and what the watch told the journal and the recorder."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.stopped: str | None = None
        self.board = SimpleNamespace(version=0, why_stopped=self._why, asked=0)
        self.journal = StubJournal()
        self.settled: list[tuple[UUID, Outcome]] = []
        messages = {
            each: Claimed(each, None, UUID(int=3), f"{each.int}@example.org", "x", None, 1, NOW, None)
            for each in (ONE, TWO)
        }
        self.batch = Batch(LANE, 5, 1030.0, 1000.0, NOW, messages, asked_s=1000.0, unsettled={ONE, TWO})
        self.watch = BatchWatch(self.batch, cast("Board", self.board), cast("Journal", self.journal), self._take)

    def _why(self, _lane: Lane) -> str | None:
        self.board.asked += 1
        return self.stopped

    def _take(self, _batch: Batch, claimed: Claimed, outcome: Outcome) -> None:
        self.settled.append((claimed.id, outcome))

    def begin(self, message_id: UUID = ONE) -> str | None:
        return self.watch.begin(out(message_id))


def out(message_id: UUID) -> Outgoing:
    return Outgoing(message_id, "a@example.org", "b@example.org", b"", "key")


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene()
    monkeypatch.setattr(batches, "boottime_s", lambda: made.now_s)
    return made


def test_leave_to_write_is_in_the_journal_before_it_is_given(scene: Scene) -> None:
    assert scene.begin() is None
    assert scene.journal.lines == [("begun", ONE, None)]
    assert scene.batch.begun == {ONE}


def pause(scene: Scene) -> None:
    scene.stopped = "paused: tenant: stop"
    scene.board.version += 1


def end_lease(scene: Scene) -> None:
    scene.now_s = scene.batch.lease_until_s - LEASE_MARGIN_S + 0.01
    scene.batch.asked_s = scene.now_s


def go_unasked(scene: Scene) -> None:
    scene.now_s = scene.batch.asked_s + LONGEST_UNASKED_S + 0.01


def withdraw(scene: Scene) -> None:
    scene.batch.withdrawn[ONE] = "do_not_contact"


def expire(scene: Scene) -> None:
    scene.batch.messages[ONE].until_s = scene.now_s


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (pause, "paused: tenant: stop"),
        (end_lease, "the lease is over"),
        (go_unasked, "do-not-contact could not be asked again"),
        (withdraw, "do_not_contact"),
        (expire, "its time of validity is over"),
    ],
)
def test_each_reason_keeps_the_bytes_in_the_house_and_out_of_the_journal(
    scene: Scene, event: Callable[[Scene], None], reason: str
) -> None:
    event(scene)
    assert scene.begin() == reason
    assert scene.journal.lines == []
    assert scene.batch.begun == set()


@pytest.mark.parametrize("event", [withdraw, expire])
def test_what_concerns_one_message_leaves_the_others_alone(scene: Scene, event: Callable[[Scene], None]) -> None:
    event(scene)
    assert scene.begin(TWO) is None


def test_the_board_is_asked_once_per_change_and_not_per_message(scene: Scene) -> None:
    for _ in range(3):
        scene.begin()
    assert scene.board.asked == 1
    pause(scene)
    assert scene.begin() == "paused: tenant: stop"
    scene.stopped = None
    assert scene.begin() == "paused: tenant: stop", "a verdict holds until the board changes"
    scene.board.version += 1
    assert scene.begin() is None


def test_just_inside_every_limit_the_bytes_may_go(scene: Scene) -> None:
    scene.now_s = scene.batch.asked_s + LONGEST_UNASKED_S
    scene.batch.messages[ONE].until_s = scene.now_s + 0.001
    assert scene.begin() is None


def test_an_outcome_is_in_the_journal_and_goes_to_the_recorder(scene: Scene) -> None:
    scene.watch.settle(out(ONE), Accepted("p1"))
    assert scene.journal.lines == [("outcome", ONE, Accepted("p1"))]
    assert scene.settled == [(ONE, Accepted("p1"))]
    assert scene.batch.unsettled == {TWO}


def test_what_has_its_outcome_gets_no_leave_any_more(scene: Scene) -> None:
    scene.watch.settle(out(ONE), Unsent("its send failed"))
    lines = list(scene.journal.lines)
    assert scene.begin(ONE) is not None, "somebody else may have it by now"
    assert scene.journal.lines == lines
    assert scene.begin(TWO) is None


def test_a_second_outcome_and_one_for_a_stranger_are_ignored(scene: Scene) -> None:
    scene.watch.settle(out(ONE), Accepted("p1"))
    scene.watch.settle(out(ONE), Rejected("message_rejected", "no"))
    scene.watch.settle(out(UUID(int=99)), Accepted("p1"))
    assert scene.settled == [(ONE, Accepted("p1"))]
    assert len(scene.journal.lines) == 1


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (Accepted("id\0x", "ok\r\n"), Accepted("id?x", "ok??")),
        (Rejected("message_rejected", "\udcff no \x1b[31m"), Rejected("message_rejected", "? no ?[31m")),
        (Deferred("server\0busy", "caf\u00e9 \u4f60", 7.0), Deferred("server?busy", "caf\u00e9 \u4f60", 7.0)),
        (Uncertain("answer_lost", "a\tb"), Uncertain("answer_lost", "a?b")),
        (Unsent("x\0"), Unsent("x?")),
        (Accepted(None, ""), Accepted(None, "")),
    ],
)
def test_text_that_neither_journal_nor_database_can_hold_is_made_printable(
    scene: Scene, given: Outcome, kept: Outcome
) -> None:
    scene.watch.settle(out(ONE), given)
    assert scene.settled == [(ONE, kept)]
    assert scene.journal.lines == [("outcome", ONE, kept)]


@pytest.mark.parametrize(
    "nonsense", [None, "accepted", Rejected("x", cast("Any", None)), Accepted(cast("Any", b"\xff")), Accepted]
)
def test_a_plugin_that_answers_nonsense_loses_nothing(scene: Scene, nonsense: Any) -> None:
    scene.begin()
    scene.watch.settle(out(ONE), nonsense)
    scene.watch.settle(out(TWO), nonsense)
    begun, waiting = (outcome for _message_id, outcome in scene.settled)
    if isinstance(nonsense, (Accepted, Rejected)):
        assert type(begun) is type(waiting) is type(nonsense)
    else:
        assert isinstance(begun, Uncertain)
        assert isinstance(waiting, Unsent)
    assert scene.batch.unsettled == set()


def test_only_what_was_claimed_just_now_and_waits_counts_as_having_hands_full() -> None:
    one, two = Scene().batch, Scene().batch
    two.claimed_s = 1000.4
    assert just_claimed([one, two], 1000.4) == 4
    one.unsettled.discard(ONE)
    assert just_claimed([one, two], 1000.4) == 3
    assert just_claimed([one, two], 1000.6) == 2, "who waits for a slow server has hands free"
    assert just_claimed([], 1000.6) == 0


@pytest.mark.parametrize(
    ("outcome", "spent"),
    [(Accepted("x"), 300), (Uncertain("answer_lost"), 300), (Deferred("server_busy"), 0), (Rejected("too_large"), 0)],
    ids=["accepted", "uncertain", "deferred", "rejected"],
)
def test_what_went_or_may_have_gone_is_counted_at_its_price(scene: Scene, outcome: Outcome, spent: int) -> None:
    dates = Dates(NOW.date(), NOW.date())
    money = Money(Payer(LANE.tenant_id, None, "UTC"), dates, {ONE: Cost(ONE, 100, 3)}, currency="EUR")
    scene.batch.money = money
    message = out(ONE)
    assert scene.watch.begin(message) is None
    scene.watch.settle(message, outcome)
    scene.watch.settle(message, Accepted("again"))
    scene.watch.settle(out(TWO), Accepted("free"))
    assert sum(money.spent.values()) == spent
    assert set(money.spent) <= {("email", "EUR")}
