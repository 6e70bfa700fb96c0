"""What Twilio's answers mean: only a plain yes is a yes, only a plain no may be sent again."""

from __future__ import annotations

import json

import pytest

from outrider.contracts.outcome import CAUSES, Accepted, Deferred, Outcome, Rejected, Uncertain
from outrider.data.http_out import Reply
from outrider.plugins.providers.twilio import answers

SID = "SM0123456789abcdef0123456789abcdef"


def told(status: int, body: object = None, **headers: str) -> Outcome:
    text = body if isinstance(body, str) else json.dumps(body)
    return answers.outcome_of(Reply(status, {"content-type": "application/json", **headers}, text.encode()))


def test_a_message_with_an_id_is_accepted() -> None:
    assert told(201, {"sid": SID, "status": "queued"}) == Accepted(SID)


@pytest.mark.parametrize("status", [[], {}, ["failed"], 5, None])
def test_a_message_with_an_id_is_accepted_whatever_stands_for_its_status(status: object) -> None:
    assert told(201, {"sid": SID, "status": status}) == Accepted(SID)


@pytest.mark.parametrize("text", ["application/json; charset=utf-8", "Application/JSON"])
def test_the_type_of_an_answer_is_read_as_headers_are(text: str) -> None:
    assert told(201, {"sid": SID}, **{"content-type": text}) == Accepted(SID)


@pytest.mark.parametrize("text", ["", "text/html", "application/problem+json", "text/html; a=application/json"])
def test_a_success_of_another_type_is_uncertain_whatever_stands_in_it(text: str) -> None:
    outcome = told(201, {"sid": SID, "status": "queued"}, **{"content-type": text})
    assert isinstance(outcome, Uncertain)
    assert outcome.detail.isprintable()


@pytest.mark.parametrize(
    "body",
    ["", "<html>OK</html>", '{"sid": "SM0123', "[]", {"sid": None}, {"sid": "SM1"}, {"sid": 5}, {"status": "queued"}],
)
def test_a_success_without_an_id_is_uncertain(body: object) -> None:
    assert isinstance(told(200, body), Uncertain)


def test_a_message_that_failed_at_once_is_rejected_with_its_cause() -> None:
    outcome = told(201, {"sid": SID, "status": "failed", "error_code": 30007, "error_message": "filtered"})
    assert outcome == Rejected("content_filtered", "HTTP 201 30007: filtered")
    late = told(201, {"sid": SID, "status": "failed", "error_code": 30001, "error_message": "full"})
    assert late == Rejected("queue_overflow_late", "HTTP 201 30001: full"), "nobody repeats what is refused"


@pytest.mark.parametrize(
    ("status", "code", "kind", "cause"),
    [
        (400, 21211, Rejected, "number_invalid"),
        (400, 21610, Rejected, "opted_out"),
        (400, 21611, Deferred, "queue_overflow"),
        (400, 21408, Rejected, "region_not_allowed"),
        (400, 21606, Rejected, "sender_not_usable"),
        (400, 21617, Rejected, "too_large"),
        (400, 63017, Rejected, "sender_not_usable"),
        (400, 99999, Rejected, "request_refused"),
        (404, 20404, Rejected, "request_refused"),
        (422, None, Rejected, "request_refused"),
        (401, 20003, Deferred, "authentication_failed"),
        (403, 20005, Deferred, "account_suspended"),
        (429, 20429, Deferred, "rate_limited"),
        (429, None, Deferred, "rate_limited"),
        (503, 20503, Deferred, "provider_down"),
        (503, 20429, Deferred, "rate_limited"),
        (500, 20500, Uncertain, "answer_lost"),
        (503, 20500, Uncertain, "answer_lost"),
        (500, 99999, Uncertain, "answer_lost"),
        (503, None, Uncertain, "answer_lost"),
        (502, None, Uncertain, "answer_lost"),
        (504, None, Uncertain, "answer_lost"),
    ],
)
def test_a_refusal_has_a_cause_and_may_be_repeated_only_when_it_says_nothing_of_the_message(
    status: int, code: int | None, kind: type[Outcome], cause: str
) -> None:
    outcome = told(status, "gateway" if code is None else {"code": code, "message": "x"})
    assert isinstance(outcome, kind)
    assert isinstance(outcome, (Deferred, Rejected, Uncertain))
    assert outcome.cause == cause
    assert cause in CAUSES


@pytest.mark.parametrize(
    ("text", "after_s"), [("7", 7.0), ("0", 0.1), ("999999", 86_400.0), ("soon", None), ("-1", None), ("1e9", None)]
)
def test_the_pause_it_asks_for_is_kept_within_a_day(text: str, after_s: float | None) -> None:
    outcome = told(429, {"code": 20429}, **{"retry-after": text})
    assert isinstance(outcome, Deferred)
    assert outcome.after_s == after_s


def test_what_it_says_is_made_printable_and_a_refused_sign_in_is_not_quoted() -> None:
    outcome = told(400, {"code": 21211, "message": "a\r\nb\x00\u202e" + "x" * 1000})
    assert isinstance(outcome, Rejected)
    assert outcome.detail.isprintable()
    assert len(outcome.detail) <= 240
    refused = told(401, {"code": 20003, "message": "not hunter2"})
    assert isinstance(refused, Deferred)
    assert "hunter2" not in refused.detail


@pytest.mark.parametrize(
    ("code", "cause", "suppress", "soft"),
    [
        (21610, "opted_out", "stop", False),
        (30003, "handset_unreachable", "", True),
        (30005, "handset_unknown", "invalid", False),
        (30006, "number_landline", "", False),
        (30007, "content_filtered", "", False),
        (30034, "sender_not_registered", "", False),
    ],
)
def test_what_a_callback_says_of_a_failure_decides_about_the_address(
    code: int, cause: str, suppress: str, *, soft: bool
) -> None:
    found = answers.cause_of(code)
    assert (found, answers.suppression_of(found), answers.is_soft(found)) == (cause, suppress, soft)


def test_every_code_has_a_cause_with_words_for_people() -> None:
    for code in (*range(14000, 15000), *range(20000, 22000), *range(30000, 31000), *range(63000, 64000)):
        cause = CAUSES[answers.cause_of(code)]
        assert cause.why
        assert cause.remedy
