"""What goes between CRLFs: commands that hold one argument, bodies that end once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.contracts.outcome import Rejected
from outrider.plugins.providers.smtp.envelope import Offer, body_problem, commands, offer_of, stuffed
from tests.kit.watching import BODY, outgoing

ALL = Offer(is_pipelining=True, is_8bitmime=True, is_smtputf8=True, has_size=True)


def test_an_offer_is_read_whatever_its_case_and_form() -> None:
    text = b"250-mail.example greets you\r\n250-pipelining\r\n250-SIZE 1000\r\n250-AUTH=LOGIN\r\n"
    text += b"250-AUTH plain LOGIN\r\n250 8BitMIME\r"
    offer = offer_of(text)
    assert (offer.is_pipelining, offer.is_8bitmime, offer.is_smtputf8, offer.is_starttls) == (True, True, False, False)
    assert (offer.has_size, offer.size_limit_bytes) == (True, 1000)
    assert offer.auth == {"PLAIN", "LOGIN"}


@pytest.mark.parametrize("size", [b"SIZE", b"SIZE 0", b"SIZE -5", b"SIZE x", b"SIZE 1e9", b"SIZE " + b"9" * 30])
def test_a_size_that_is_no_limit_is_none(size: bytes) -> None:
    offer = offer_of(b"250-x\r\n250 " + size)
    assert (offer.has_size, offer.size_limit_bytes) == (True, 0)


def test_the_greeting_line_offers_nothing() -> None:
    assert offer_of(b"250 PIPELINING STARTTLS") == Offer()
    assert offer_of(b"250-PIPELINING\r\n250-\r\n250 HELP") == Offer()


def test_options_appear_only_where_they_are_offered_and_needed() -> None:
    plain, eight = outgoing(), outgoing(body=BODY + b"\xc3\xa9\r\n")
    assert commands(plain, Offer()) == (b"MAIL FROM:<news@example.org>\r\n", b"RCPT TO:<a@example.com>\r\n")
    assert commands(plain, ALL)[0] == b"MAIL FROM:<news@example.org> SIZE=%d\r\n" % len(BODY)  # type: ignore[index]  # no Rejected
    assert commands(eight, ALL)[0].endswith(b" BODY=8BITMIME\r\n")  # type: ignore[index]  # no Rejected
    assert commands(outgoing("ü@b.c"), ALL)[0].endswith(b" SMTPUTF8\r\n")  # type: ignore[index]  # no Rejected


def test_the_null_sender_is_a_sender() -> None:
    assert commands(outgoing(sender=""), Offer()) == (b"MAIL FROM:<>\r\n", b"RCPT TO:<a@example.com>\r\n")


@given(st.text(max_size=40), st.text(max_size=40))
def test_whatever_the_addresses_are_each_command_is_one_line_with_one_path(address: str, sender: str) -> None:
    lines = commands(outgoing(address.encode("utf-8", "replace").decode(), sender=sender), ALL)
    if not isinstance(lines, Rejected):
        for line in lines:
            assert line.endswith(b"\r\n")
            assert line.count(b"\n") == line.count(b"\r") == line.count(b"<") == line.count(b">") == 1
        assert lines[1].count(b" ") == 1
        assert lines[0].split(b">")[0].count(b" ") == 1


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"x", b"\0", b"\x85"]), max_size=30).map(b"".join))
def test_a_body_that_passes_ends_at_its_dot_for_every_kind_of_reader(body: bytes) -> None:
    if body_problem(body) is not None:
        assert not body.endswith(b"\r\n") or b"\r" in body.replace(b"\r\n", b"") or b"\n" in body.replace(b"\r\n", b"")
        return
    wire = stuffed(body) + b".\r\n"
    for end in (b"\r\n.\r\n", b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\n.\r"):
        assert wire.find(end) in (-1, len(wire) - len(end), len(wire) - len(end) - 1)
    read = b"\r\n".join(line.removeprefix(b".") for line in wire[:-3].split(b"\r\n"))
    assert read == body


def test_a_body_without_leading_dots_is_not_copied() -> None:
    assert stuffed(BODY) is BODY
    assert stuffed(b".a\r\n..b\r\nc.\r\n") == b"..a\r\n...b\r\nc.\r\n"
