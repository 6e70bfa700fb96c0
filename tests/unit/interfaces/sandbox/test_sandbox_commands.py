"""MAIL and RCPT lines, replies, AUTH exchanges: pure grammar."""

from __future__ import annotations

import base64

import pytest

from outrider.interfaces.sandbox.commands import (
    BAD_PARAMS,
    BAD_RECIPIENT,
    BAD_SENDER,
    Path,
    in_three_lines,
    parse_mail,
    parse_rcpt,
    reply,
)
from outrider.interfaces.sandbox.sasl import Exchange

CREDENTIALS = {"ana": "s3cret", "bo": "other"}


@pytest.mark.parametrize(
    ("line", "address", "params"),
    [
        (b"MAIL FROM:<ana@example.org>", "ana@example.org", {}),
        (b"mail from:<>", "", {}),
        (b"MAIL FROM:<> SIZE=12 BODY=8BITMIME SMTPUTF8", "", {"SIZE": "12", "BODY": "8BITMIME", "SMTPUTF8": None}),
        (b'MAIL FROM:<"a b"@example.org>', '"a b"@example.org', {}),
        (b"MAIL FROM:<a+b@[192.0.2.1]>", "a+b@[192.0.2.1]", {}),
        ("MAIL FROM:<zoë@exämple.org> SMTPUTF8".encode(), "zoë@exämple.org", {"SMTPUTF8": None}),
    ],
)
def test_a_proper_mail_line_is_read(line: bytes, address: str, params: dict[str, str | None]) -> None:
    path = parse_mail(line)
    assert isinstance(path, Path)
    assert (path.address, path.params) == (address, params)


@pytest.mark.parametrize(
    "line",
    [
        b"MAIL FROM: <a@b>",
        b"MAIL FROM:a@b",
        b"MAIL FROM:<a@b",
        b"MAIL FROM:<a..b@c>",
        b"MAIL FROM:<.a@c>",
        b"MAIL FROM:<a@-c>",
        b"MAIL FROM:<a b@c>",
        b"MAIL FROM:<@relay:a@b>",
        b"MAIL FROM:<a@b>SIZE=1",
        b"MAIL TO:<a@b>",
        b"MAIL FROM:<" + b"a" * 65 + b"@b>",
        b"MAIL FROM:<a@" + b"b" * 260 + b">",
        b"MAIL FROM:<\xff\xfe@b>",
    ],
)
def test_an_improper_sender_is_refused(line: bytes) -> None:
    assert parse_mail(line) == BAD_SENDER


@pytest.mark.parametrize("params", [b" ", b"SIZE=", b"=1", b"SIZE=1  BODY=7BIT", b"SIZE=1 SIZE=2", b"A=\x01", b"-A"])
def test_improper_parameters_are_refused(params: bytes) -> None:
    assert parse_mail(b"MAIL FROM:<a@b> " + params) == BAD_PARAMS


def test_recipients_need_a_mailbox_or_are_postmaster() -> None:
    assert parse_rcpt(b"RCPT TO:<Postmaster>") == Path("Postmaster")
    assert parse_rcpt(b"RCPT TO:<>") == BAD_RECIPIENT
    assert parse_rcpt(b"RCPT TO:<nobody>") == BAD_RECIPIENT


def test_the_grammar_takes_no_time_over_hostile_lines() -> None:
    for filler in (b"a", b"a.", b"a-", b'"', b"\\ "):
        assert parse_rcpt(b"RCPT TO:<a@" + filler * 600) == BAD_RECIPIENT
        assert parse_rcpt(b"RCPT TO:<" + filler * 600 + b"@") == BAD_RECIPIENT


def test_replies_are_ascii_and_multiline_where_the_text_is() -> None:
    assert reply(550, "no\nreally\r\nno ä", "5.1.1") == b"550-5.1.1 no\r\n550-5.1.1 really\r\n550 5.1.1 no ?\r\n"
    assert in_three_lines(b"250 2.0.0 Ok\r\n").splitlines() == [
        b"250-2.0.0 This answer",
        b"250-2.0.0 has three lines",
        b"250 2.0.0 Ok",
    ]


def encoded(text: bytes) -> bytes:
    return base64.b64encode(text)


@pytest.mark.parametrize(
    ("response", "verdict", "user"),
    [
        (encoded(b"\0ana\0s3cret"), "right", "ana"),
        (encoded(b"ana\0ana\0s3cret"), "right", "ana"),
        (encoded(b"bo\0ana\0s3cret"), "wrong", ""),
        (encoded(b"\0ana\0other"), "wrong", ""),
        (encoded(b"\0ana\0"), "wrong", ""),
        (encoded(b"\0\0"), "wrong", ""),
        (encoded(b"ana s3cret"), "malformed", ""),
        (b"not base64!", "malformed", ""),
        (b"*", "cancelled", ""),
        (b"=", "malformed", ""),
    ],
)
def test_auth_plain_tells_right_from_wrong(response: bytes, verdict: str, user: str) -> None:
    exchange = Exchange(b"PLAIN", CREDENTIALS)
    assert (exchange.answer(response), exchange.user) == (verdict, user)


def test_auth_login_asks_twice() -> None:
    exchange = Exchange(b"LOGIN", CREDENTIALS)
    assert exchange.question == b"334 " + encoded(b"Username:") + b"\r\n"
    assert exchange.answer(encoded(b"bo")) == "go_on"
    assert exchange.question == b"334 " + encoded(b"Password:") + b"\r\n"
    assert exchange.answer(encoded(b"other")) == "right"
    assert exchange.user == "bo"
