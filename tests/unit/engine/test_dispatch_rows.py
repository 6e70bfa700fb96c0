"""What an outcome means for its message: the whole table of the protocol between provider and engine."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from outrider.base.settings import Settings
from outrider.contracts.outcome import CAUSES, Accepted, Deferred, Outcome, Rejected, Uncertain, Unsent
from outrider.engine.dispatch.record import Row, row_for
from outrider.engine.dispatch.recovery import CRASHES_TO_POISON, _begun, _poison

ID, TOKEN = UUID(int=1), 77
SETTINGS = Settings.model_construct(retry_first_s=30.0, retry_most_s=3600.0, retry_attempts=3)


def row(outcome: Outcome, *, attempt: int = 1, may_repeat: bool = False) -> Row:
    return row_for(ID, TOKEN, outcome, attempt=attempt, may_repeat=may_repeat, settings=SETTINGS)


def test_accepted_is_sent_with_the_providers_id() -> None:
    assert row(Accepted("p7", "250 ok")) == Row("sent", ID, TOKEN, "sent", "p7")


def test_unsent_goes_back_as_if_nothing_had_been_tried() -> None:
    assert row(Unsent("paused"), attempt=99) == Row("hand_back", ID, TOKEN)
    assert row(Unsent("rate: later", 2.5), attempt=99) == Row("hold_back", ID, TOKEN, detail="rate: later", delay_s=2.5)


def test_rejected_fails_with_its_cause_and_is_never_repeated() -> None:
    assert row(Rejected("mailbox_unavailable", "550"), may_repeat=True) == Row(
        "finish", ID, TOKEN, "failed", None, "mailbox_unavailable", "550"
    )


def test_uncertain_is_left_to_people_unless_the_sender_promised_to_repeat() -> None:
    assert row(Uncertain("answer_lost", "cut")) == Row("finish", ID, TOKEN, "uncertain", None, "answer_lost", "cut")
    repeated = row(Uncertain("answer_lost", "cut"), may_repeat=True)
    assert (repeated.kind, repeated.code) == ("defer", "answer_lost")
    assert 0 <= repeated.delay_s <= 30


def test_an_uncertain_message_is_uncertain_still_when_its_attempts_are_used_up() -> None:
    assert row(Uncertain("answer_lost", "cut"), attempt=3, may_repeat=True).state == "uncertain"


@pytest.mark.parametrize("code", sorted(CAUSES))
def test_every_cause_of_a_deferral_follows_its_class_of_repetition(code: str) -> None:
    found = row(Deferred(code, "later"))
    match CAUSES[code].retry:
        case "never" | "by_hand":
            assert (found.kind, found.state, found.code) == ("finish", "failed", code)
        case "quarter_hour":
            assert found.kind == "defer"
            assert found.delay_s >= 900
        case "schedule":
            assert found.kind == "defer"
            assert 0 <= found.delay_s <= 30


def test_a_cause_that_nobody_knows_is_repeated_and_kept() -> None:
    found = row(Deferred("carrier_pigeon_ill", "later", 100.0))
    assert (found.kind, found.code) == ("defer", "carrier_pigeon_ill")
    assert found.delay_s >= 100


def test_a_deferred_message_fails_for_good_after_its_last_attempt() -> None:
    assert row(Deferred("server_deferred", "450"), attempt=2).kind == "defer"
    assert row(Deferred("server_deferred", "450"), attempt=3) == Row(
        "finish", ID, TOKEN, "failed", None, "server_deferred", "450"
    )


@pytest.mark.parametrize("outcome", [Rejected("x", "y" * 9000), Uncertain("x", "y" * 9000), Deferred("x", "y" * 9000)])
def test_long_words_of_a_server_are_cut(outcome: Outcome) -> None:
    found = row(outcome)
    assert found.detail == "y" * 500


def leased(**columns: Any) -> Any:
    return {"message_id": ID, "token": TOKEN, "crashes": 0, **columns}


def test_a_begun_message_without_answer_is_repeated_only_by_promise() -> None:
    assert _begun(leased(), may_repeat=True).kind == "try_again"
    kept = _begun(leased(), may_repeat=False)
    assert (kept.kind, kept.state, kept.code) == ("finish", "uncertain", "answer_lost")


def test_what_went_in_a_request_known_by_a_key_is_never_tried_alone_whatever_was_promised() -> None:
    lost = Uncertain("answer_lost", "no answer", is_keyed=True)
    for may_repeat in (True, False):
        begun = _begun(leased(), may_repeat=may_repeat, is_keyed=True)
        assert (begun.kind, begun.state, begun.code) == ("finish", "uncertain", "answer_lost")
        ended = row(lost, may_repeat=may_repeat)
        assert (ended.kind, ended.state, ended.code) == ("finish", "uncertain", "answer_lost")


def test_a_message_in_whose_hands_workers_keep_dying_is_poison() -> None:
    assert _poison(leased(crashes=CRASHES_TO_POISON - 2)) is None
    last = _poison(leased(crashes=CRASHES_TO_POISON - 1))
    assert last is not None
    assert (last.kind, last.state, last.code) == ("finish", "failed", "poison")
    begun = _begun(leased(crashes=CRASHES_TO_POISON - 1), may_repeat=True)
    assert (begun.state, begun.code) == ("uncertain", "poison")
    assert _begun(leased(crashes=99), may_repeat=False).state == "uncertain", "perhaps it was sent: people decide"
