"""The table from a server's refusal to an outcome."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.contracts.outcome import CAUSES, Accepted, Deferred, Rejected
from outrider.plugins.providers.smtp.replies import Reply, Step, accepted, describe, enhanced_code, judge


@pytest.mark.parametrize(
    ("step", "text", "cause", "is_permanent"),
    [
        ("MAIL", "421 4.3.2 bye", "server_busy", False),
        ("RCPT", "421 bye", "server_busy", False),
        ("MAIL", "450 4.7.1 later", "server_deferred", False),
        ("RCPT", "450 4.2.0 Greylisted", "server_deferred", False),
        ("RCPT", "451 try later", "server_deferred", False),
        ("RCPT", "452 4.2.2 mailbox full", "server_deferred", False),
        ("DOT", "452 4.3.1 no space", "server_deferred", False),
        ("MAIL", "530 5.7.0 authentication required", "authentication_failed", False),
        ("MAIL", "535 5.7.8 no", "authentication_failed", False),
        ("RCPT", "530 5.7.1 sign in", "authentication_failed", False),
        ("MAIL", "538 5.7.11 encrypt", "authentication_failed", False),
        ("MAIL", "550 5.7.1 not your domain", "message_rejected", True),
        ("MAIL", "553 5.1.8 sender unknown", "message_rejected", True),
        ("MAIL", "552 too big", "too_large", True),
        ("MAIL", "552 5.3.4 too big", "too_large", True),
        ("MAIL", "555 5.5.4 unknown parameter", "message_rejected", True),
        ("MAIL", "503 5.5.1 order", "protocol_error", False),
        ("RCPT", "500 5.5.2 what", "protocol_error", False),
        ("RCPT", "503 5.5.1 MAIL first", "protocol_error", False),
        ("RCPT", "550 5.1.1 unknown", "mailbox_unavailable", True),
        ("RCPT", "550 unknown", "mailbox_unavailable", True),
        ("RCPT", "551 5.1.6 moved", "mailbox_unavailable", True),
        ("RCPT", "552 5.2.2 full", "mailbox_unavailable", True),
        ("RCPT", "552 full", "mailbox_unavailable", True),
        ("RCPT", "553 syntax", "mailbox_unavailable", True),
        ("RCPT", "554 5.7.1 relay access denied", "message_rejected", True),
        ("RCPT", "554 no", "message_rejected", True),
        ("RCPT", "550 5.7.1 blocked by policy", "message_rejected", True),
        ("RCPT", "550 5.7.26 unauthenticated", "message_rejected", True),
        ("RCPT", "556 5.1.10 null MX", "mailbox_unavailable", True),
        ("RCPT", "553 5.6.7 needs SMTPUTF8", "smtputf8_unsupported", True),
        ("DATA", "554 5.5.1 no valid recipients", "message_rejected", True),
        ("DOT", "550 5.7.1 spam", "message_rejected", True),
        ("DOT", "554 spam", "message_rejected", True),
        ("DOT", "552 5.3.4 too big", "too_large", True),
        ("DOT", "552 5.2.3 too big for the mailbox", "too_large", True),
        ("DOT", "552 5.2.2 mailbox full", "mailbox_unavailable", True),
        ("DOT", "550 5.1.1 unknown", "mailbox_unavailable", True),
        ("DOT", "554 5.6.3 conversion required", "eight_bit_unsupported", True),
        ("DATA", "250 what", "protocol_error", False),
        ("MAIL", "354 what", "protocol_error", False),
    ],
)
def test_each_refusal_has_its_cause(step: str, text: str, cause: str, *, is_permanent: bool) -> None:
    outcome = judge(Step[step], Reply(int(text[:3]), text.encode()))
    assert (type(outcome), outcome.cause) == (Rejected if is_permanent else Deferred, cause)
    assert text[:3] in outcome.detail


@pytest.mark.parametrize(
    ("step", "text", "suppress", "is_soft"),
    [
        ("RCPT", "550 5.1.1 unknown", "hard_bounce", False),
        ("RCPT", "550 5.1.2 no such domain", "hard_bounce", False),
        ("RCPT", "553 5.1.3 bad syntax", "hard_bounce", False),
        ("RCPT", "551 5.1.6 moved", "hard_bounce", False),
        ("RCPT", "556 5.1.10 null MX", "hard_bounce", False),
        ("DOT", "550 5.2.1 closed", "hard_bounce", False),
        ("RCPT", "550 5.1.0 address rejected", "", True),
        ("RCPT", "553 5.1.4 ambiguous", "", True),
        ("RCPT", "550 5.1.5 valid, and yet", "", True),
        ("RCPT", "550 5.1.8 sender unknown", "", False),
        ("RCPT", "550 unknown", "", True),
        ("MAIL", "550 5.1.0 you are nobody", "", False),
        ("RCPT", "552 5.2.2 full", "", True),
        ("RCPT", "450 later", "", True),
        ("DOT", "452 4.2.2 full", "", True),
        ("DOT", "451 4.3.2 scanner down", "", False),
        ("RCPT", "451 4.7.1 greylisted", "", False),
        ("RCPT", "550 5.7.1 blocked", "", False),
        ("RCPT", "421 4.2.1 closing", "", False),
        ("MAIL", "450 4.2.1 later", "", False),
    ],
)
def test_what_is_about_the_mailbox_counts_and_what_is_about_the_sender_does_not(
    step: str, text: str, suppress: str, *, is_soft: bool
) -> None:
    outcome = judge(Step[step], Reply(int(text[:3]), text.encode()))
    assert getattr(outcome, "suppress", "") == suppress
    assert outcome.is_soft is is_soft


@given(st.sampled_from(Step), st.integers(200, 599), st.binary(max_size=80))
def test_every_answer_has_a_known_cause_and_a_printable_detail(step: Step, code: int, text: bytes) -> None:
    outcome = judge(step, Reply(code, b"%d " % code + text))
    assert outcome.cause in CAUSES
    assert outcome.detail.isascii()
    assert outcome.detail.isprintable()
    assert len(outcome.detail) <= 240
    assert isinstance(outcome, Rejected) == (CAUSES[outcome.cause].retry == "never")


def test_an_enhanced_code_of_another_class_is_not_believed() -> None:
    assert enhanced_code(Reply(550, b"550 4.2.2 full")) == ""
    assert enhanced_code(Reply(550, b"550 5.1.1")) == "5.1.1"
    assert enhanced_code(Reply(550, b"550 5.1.1x no")) == ""
    assert enhanced_code(Reply(550, b"550-5.1.1 one\r\n550 5.1.1 two")) == "5.1.1"


@pytest.mark.parametrize(
    ("text", "wish_s"),
    [
        (b"451 4.7.1 Greylisted, try again in 300 seconds", 300.0),
        (b"450 please retry after 5 minutes", 300.0),
        (b"450 Greylisted for 60s", 60.0),
        (b"450 back in 2 hours", 7200.0),
        (b"450 back in 99999 hours", 86400.0),
        (b"450 4.2.0 Greylisted, see http://postgrey.example/help", None),
        (b"450 in 3 words", None),
        (b"550 not in 300 seconds", None),
    ],
)
def test_a_wish_to_wait_is_heard_within_bounds(text: bytes, wish_s: float | None) -> None:
    outcome = judge(Step.RCPT, Reply(int(text[:3]), text))
    assert (outcome.after_s if isinstance(outcome, Deferred) else None) == wish_s


@pytest.mark.parametrize(
    ("text", "queue_id"),
    [
        (b"250 2.0.0 Ok: queued as 4XyZ12abc\r", "4XyZ12abc"),
        (b"250 OK id=1tGabc-0000Xy-2K\r", "1tGabc-0000Xy-2K"),
        (b"250 Ok 0100018c1234abcd-11112222-3333-000000\r", "0100018c1234abcd-11112222-3333-000000"),
        (b"250 2.0.0 Ok\r", None),
        (b"250 Ok fine\r", None),
        (b"250 queued as " + b"A" * 100, "A" * 64),
        (b"250 queued as \x1b[31m", None),
        (b"250", None),
    ],
)
def test_the_queue_id_is_kept_where_it_is_recognisable(text: bytes, queue_id: str | None) -> None:
    assert accepted(text) == Accepted(queue_id)


def test_a_description_is_one_printable_line() -> None:
    assert describe("RCPT", Reply(550, b"550-5.1.1 no\r\n550 such\x1b[2J user\r")) == "RCPT: 550 5.1.1 no such?[2J user"
    assert len(describe("RCPT", Reply(550, b"550 " + b"x" * 4000))) == 240
