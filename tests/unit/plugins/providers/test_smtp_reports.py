"""Letters that come back: what each of the forms in use says, and that no letter whatsoever raises."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.plugins.providers.smtp.reports import MOST_BYTES, Report, read

_HEAD = (
    "From: MAILER-DAEMON@mx.example.net\r\nTo: b@bounces.example.com\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n"
)


def dsn(fields: str, *, kind: str = "message/delivery-status", text: str = "Sorry.", back: str = "") -> bytes:
    """A notification as Postfix writes it, with these fields about the recipient."""
    return (
        f'{_HEAD}Content-Type: multipart/report; report-type=delivery-status; boundary="B"\r\n\r\n'
        f"--B\r\nContent-Type: text/plain\r\n\r\n{text}\r\n"
        f"--B\r\nContent-Type: {kind}\r\n\r\n"
        f"Reporting-MTA: dns; mx.example.net\r\nArrival-Date: Mon, 2 Nov 2026 10:00:00 +0000\r\n\r\n{fields}\r\n"
        f"--B\r\nContent-Type: message/rfc822\r\n\r\n{back or 'Subject: Spring'}\r\n\r\nHello\r\n--B--\r\n"
    ).encode()


def failed(status: str, diagnostic: str = "smtp; 550 no") -> bytes:
    return dsn(
        f"Final-Recipient: rfc822; ann@example.net\r\nAction: failed\r\nStatus: {status}\r\n"
        f"Diagnostic-Code: {diagnostic}"
    )


@pytest.mark.parametrize(
    ("status", "cause", "is_hard", "is_soft"),
    [
        ("5.1.1", "mailbox_unavailable", True, False),
        ("5.1.10", "mailbox_unavailable", True, False),
        ("5.1.2 (bad host)", "mailbox_unavailable", True, False),
        ("5.2.1", "mailbox_unavailable", True, False),
        ("5.2.2", "mailbox_unavailable", False, True),
        ("5.3.4", "too_large", False, False),
        ("5.7.1", "message_rejected", False, False),
        ("5.0.0", "mailbox_unavailable", False, True),
        ("5.1.8", "mailbox_unavailable", False, False),
        ("4.4.7", "server_deferred", False, True),
        ("4.7.0", "server_deferred", False, False),
        ("4.2.2", "server_deferred", False, True),
    ],
)
def test_a_failure_says_why_and_whether_the_address_is_lost(
    status: str, cause: str, *, is_hard: bool, is_soft: bool
) -> None:
    found = read(failed(status), has_null_sender=True)
    assert (found.kind, found.status, found.cause, found.is_hard, found.is_soft) == (
        "bounced",
        status.partition(" ")[0],
        cause,
        is_hard,
        is_soft,
    )
    assert found.detail == "550 no"


def test_the_servers_own_words_are_kept_in_one_printable_line() -> None:
    found = read(
        failed("5.1.1", "smtp; 550 5.1.1 <ann@example.net>:\r\n Recipient\tunknown \x1b[31m"), has_null_sender=True
    )
    assert found.detail == "550 5.1.1 <ann@example.net>: Recipient unknown [31m"
    assert len(read(failed("5.1.1", "smtp; " + "x" * 5000), has_null_sender=True).detail) == 240


@pytest.mark.parametrize(
    ("action", "kind"),
    [("delayed", "delayed"), ("Delivered", "delivered"), ("relayed", "delivered"), ("expanded", "delivered")],
)
def test_what_is_no_failure_is_none(action: str, kind: str) -> None:
    found = read(dsn(f"Action: {action}\r\nStatus: 2.0.0"), has_null_sender=True)
    assert (found.kind, found.is_hard, found.cause) == (kind, False, "")


def test_a_status_part_that_was_encoded_or_is_international_is_read_as_well() -> None:
    fields = "Action: failed\r\nStatus: 5.1.1"
    international = dsn(fields, kind="message/global-delivery-status")
    assert read(international, has_null_sender=True).status == "5.1.1"
    encoded = dsn(fields, kind="message/delivery-status\r\nContent-Transfer-Encoding: 8bit")
    assert read(encoded, has_null_sender=True).status == "5.1.1"


def test_what_the_returned_message_says_counts_for_nothing() -> None:
    forged = "Subject: x\r\nContent-Type: message/delivery-status\r\n\r\nAction: failed\r\nStatus: 5.1.1"
    letter = dsn("Action: delayed\r\nStatus: 4.4.1", back=forged)
    assert read(letter, has_null_sender=True).kind == "delayed"


def complaint(kind: str) -> bytes:
    return (
        f'{_HEAD}Content-Type: multipart/report; report-type=feedback-report; boundary="B"\r\n\r\n'
        f"--B\r\nContent-Type: text/plain\r\n\r\nThis is spam.\r\n"
        f"--B\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: {kind}\r\nUser-Agent: Loop/1.0\r\n"
        f"Version: 1\r\n\r\n--B\r\nContent-Type: message/rfc822\r\n\r\nSubject: Spring\r\n\r\nHello\r\n--B--\r\n"
    ).encode()


@pytest.mark.parametrize("kind", ["abuse", "Fraud", "opt-out"])
def test_a_complaint_is_one_whoever_sent_it(kind: str) -> None:
    assert read(complaint(kind), has_null_sender=False) == Report("complaint", detail=f"{kind.lower()} Loop/1.0")


def test_the_opposite_of_a_complaint_is_none() -> None:
    assert read(complaint("not-spam"), has_null_sender=False).kind == "unknown"


@pytest.mark.parametrize(
    "header", ["Auto-Submitted: auto-replied", "Precedence: auto_reply", "X-Autoreply: yes", "X-Autorespond: Away"]
)
def test_a_holiday_note_is_a_reply_and_no_bounce(header: str) -> None:
    letter = f"From: ann@example.net\r\n{header}\r\n\r\nI am away; my status is 5.1.1\r\n".encode()
    assert read(letter, has_null_sender=True).kind == "reply"


QMAIL = (
    b"From: MAILER-DAEMON@old.example.net\r\nSubject: failure notice\r\n\r\n"
    b"Hi. This is the qmail-send program at old.example.net.\r\n\r\n<ann@example.net>:\r\n"
    b"Sorry, no mailbox here by that name. (#5.1.1)\r\n\r\n--- Below this line is a copy of the message.\r\n"
)


def test_a_bounce_in_words_counts_only_when_nobody_sent_it() -> None:
    found = read(QMAIL, has_null_sender=True)
    assert (found.kind, found.status, found.is_hard) == ("bounced", "5.1.1", True)
    assert found.detail == "Sorry, no mailbox here by that name. (#5.1.1)"
    assert read(QMAIL, has_null_sender=False).kind == "unknown"


def test_a_failure_without_a_code_is_never_taken_for_a_lost_address() -> None:
    found = read(dsn("Action: failed"), has_null_sender=True)
    assert (found.kind, found.cause, found.is_hard) == ("bounced", "mailbox_unavailable", False)


def test_only_the_beginning_of_a_huge_letter_is_read() -> None:
    head, _, rest = failed("5.1.1").partition(b"Sorry.")
    began_s = time.process_time()
    assert read(head + b"x" * (2 * MOST_BYTES) + rest, has_null_sender=True).kind == "unknown"
    assert read(failed("5.1.1") + b"x" * (30 * MOST_BYTES), has_null_sender=True).status == "5.1.1"
    assert time.process_time() - began_s < 60, "it ends"


@given(letter=st.binary(max_size=400), has_null_sender=st.booleans())
def test_no_letter_raises(letter: bytes, *, has_null_sender: bool) -> None:
    assert read(letter, has_null_sender=has_null_sender).kind in {"unknown", "reply", "bounced"}
    assert read(dsn("Action: failed").replace(b"Sorry.", letter), has_null_sender=has_null_sender) is not None
    assert read(letter + failed("5.1.1")[:300], has_null_sender=has_null_sender) is not None
