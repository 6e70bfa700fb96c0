"""What receivers write about a mail: proofs that hold, that fail, that were not looked at, and words of a forger."""

from __future__ import annotations

import pytest

from outrider.base.errors import Refused
from outrider.domain.senders.received import MOST_BYTES, checked

GOOD = (
    b"Authentication-Results: mx.example.net;\r\n"
    b"       dkim=pass (2048-bit key; unprotected) header.i=@example.org header.s=s1 header.b=AbC;\r\n"
    b"       spf=pass (mx.example.net: b@example.org (really) may) smtp.mailfrom=b@example.org;\r\n"
    b"       dmarc=pass (p=NONE sp=NONE) header.from=example.org\r\n"
)
FORGED = b"Authentication-Results: mx.example.net; dkim=pass; spf=pass; dmarc=pass\r\n"
REST = b"From: Shop <shop@example.org>\r\nSubject: Hello\r\n\r\nHello\r\n"


def verdicts(mail: bytes) -> dict[str, str]:
    return {check.subject: check.verdict for check in checked(mail)}


def test_proofs_that_hold_are_shown_with_whom_they_prove() -> None:
    found = {check.subject: check for check in checked(GOOD + REST)}
    assert {name: check.verdict for name, check in found.items()} == dict.fromkeys(
        ("spf", "dkim", "dmarc", "spam"), "ok"
    )
    assert found["spf"].detail == "smtp.mailfrom=b@example.org"
    assert found["dkim"].name == "mx.example.net"
    assert "header.s=s1" in found["dkim"].detail


def test_what_fails_says_what_to_do_and_one_good_signature_is_enough() -> None:
    mail = (
        b"Authentication-Results: mx; spf=softfail smtp.mailfrom=x@example.org; dkim=fail header.i=@a.example;\n"
        b" dkim=pass header.i=@example.org; dmarc=temperror\n" + REST
    )
    assert verdicts(mail) == {"spf": "fail", "dkim": "ok", "dmarc": "unknown", "spam": "ok"}
    assert "outrider sender dns" in next(check.remedy for check in checked(mail) if check.subject == "spf")


def test_only_what_the_receiver_wrote_on_top_counts() -> None:
    mine = b"Authentication-Results: mx.example.net; spf=fail smtp.mailfrom=evil.example\r\n"
    assert verdicts(mine + FORGED + REST) == {"spf": "fail", "dkim": "warn", "dmarc": "warn", "spam": "ok"}


@pytest.mark.parametrize("line", [b"X-Spam-Flag: YES\n", b"X-Spam-Status: Yes, score=7.1 required=5.0\n"])
def test_what_a_filter_took_for_spam_is_said(line: bytes) -> None:
    assert verdicts(GOOD + line + REST)["spam"] == "fail"
    assert verdicts(GOOD + line.replace(b"YES", b"NO").replace(b"Yes", b"No") + REST)["spam"] == "ok"


@pytest.mark.parametrize(
    ("mail", "code"),
    [(b"", "no_header"), (b"\xff\xfe\x00", "no_header"), (REST, "no_results"), (b"x" * (MOST_BYTES + 1), "too_large")],
)
def test_what_is_no_received_mail_is_refused(mail: bytes, code: str) -> None:
    with pytest.raises(Refused) as raised:
        checked(mail)
    assert raised.value.code == code


def test_nothing_a_stranger_writes_reaches_the_terminal_as_it_is() -> None:
    mail = b"Authentication-Results: mx\x1b[31m; spf=pass smtp.mailfrom=a\x1b[0m@example.org\n" + REST
    assert all(text.isprintable() for check in checked(mail) for text in (check.name, check.detail, *check.found))


def test_nested_comments_without_end_cost_no_time() -> None:
    assert (
        verdicts(b"Authentication-Results: mx; spf=pass " + b"(" * 99_999 + b")" * 99_999 + b"\n" + REST)["spf"] == "ok"
    )
