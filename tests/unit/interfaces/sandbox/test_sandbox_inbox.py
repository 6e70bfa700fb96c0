"""The inbox pages: everything a message says is escaped, nothing it says runs."""

from __future__ import annotations

from outrider.interfaces.sandbox import inbox
from outrider.interfaces.sandbox.ledger import Record

POLYGLOT = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&amp;"

STATS = dict.fromkeys(("accepted", "refused", "deferred", "dropped", "sessions", "bytes"), 1_234_567)


def record(**changes: object) -> Record:
    values: dict[str, object] = {
        "seq": 7,
        "at_ns": 1_700_000_000_123_000_000,
        "boot_ns": 1,
        "outcome": "accepted",
        "stage": "dot",
        "mail_from": "",
        "rcpt_to": "ana@example.org",
        "message_id": "<m@x>",
        "outrider_ids": {},
        "size_bytes": 10,
        "sha256": "0" * 64,
        "session": "s-1",
        "queue_id": "s-1.1",
        "is_tls": False,
        "auth_user": None,
        "mail_params": "",
        "reply": "250 2.0.0 Ok",
        "fault": None,
    }
    return Record(**{**values, **changes})  # type: ignore[arg-type]  # a builder of test records by name


def test_the_list_escapes_everything_it_shows() -> None:
    hostile = record(mail_from=POLYGLOT, rcpt_to=POLYGLOT, message_id=POLYGLOT)
    page = inbox.list_page([(hostile, POLYGLOT), (hostile, None)], STATS, rcpt_to=POLYGLOT, is_live=True).decode()
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 6


def test_the_message_escapes_headers_text_and_facts() -> None:
    body = f"Subject: {POLYGLOT}\r\nX-Evil: {POLYGLOT}\r\n\r\n{POLYGLOT}\r\n".encode()
    hostile = record(rcpt_to=POLYGLOT, reply=POLYGLOT, outrider_ids={POLYGLOT: POLYGLOT}, fault=POLYGLOT)
    page = inbox.message_page(hostile, body).decode()
    assert "<script" not in page
    assert "<img" not in page
    assert "<pre>" in page


def test_html_parts_are_framed_without_any_right() -> None:
    body = b"Content-Type: text/html; charset=iso-8859-1\r\n\r\n<p>Z\xfcrich</p>\r\n"
    page = inbox.message_page(record(), body).decode()
    assert '<iframe sandbox="" src="/inbox/7/html"' in page
    assert "Zürich" not in page
    assert "<p>Zürich</p>" in inbox.html_part(body).decode()
    assert inbox.MESSAGE_CSP.startswith("sandbox; default-src 'none'")
    assert "script-src" not in inbox.MESSAGE_CSP
    assert "script-src" not in inbox.PAGE_CSP


def test_broken_mail_still_has_a_page() -> None:
    bodies = [
        b"",
        b"\xff\xfe\x00",
        b"Subject: =?utf-8?b?!!!?=\r\nContent-Type: text/html; charset=no-such\r\n\r\n\xff",
        b"Subject: =?no-such?q?x?=\r\nContent-Type: multipart/mixed\r\n\r\nnothing",
        b"Content-Type: text/plain; charset*=x''%ff\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!",
        b"Content-Disposition: ;;;\r\nContent-Type: ;\r\n\r\nx",
    ]
    for body in bodies:
        assert inbox.message_page(record(), body).startswith(b"<!doctype html>")
        assert inbox.html_part(body)
        assert isinstance(inbox.subject_of(body), str)


def test_encoded_subjects_are_readable() -> None:
    assert inbox.subject_of(b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nFrom: x\r\n") == "Grüße"
    assert inbox.subject_of("Subject: Grüße 🎉\r\nFrom: x\r\n".encode()) == "Grüße 🎉", "SMTPUTF8 writes it as it is"


def test_a_message_whose_bytes_were_not_kept_says_so() -> None:
    assert b"keeps_bodies" in inbox.message_page(record(), None)
    assert b"Nothing for ana@example.org yet." in inbox.list_page([], STATS, rcpt_to="ana@example.org", is_live=False)
