"""Letters that are made to cost are refused before they are built; what no database takes is never read from them."""

from __future__ import annotations

from email.message import Message

import pytest

from outrider.base.errors import Refused
from outrider.interfaces.submission import letter

HEAD = b"From: news@example.org\r\nSubject: x\r\n"
MIXED = HEAD + b"Content-Type: multipart/mixed; boundary=a\r\n\r\n"


def refused(body: bytes) -> Refused:
    with pytest.raises(Refused) as info:
        letter.read(body)
    return info.value


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """Every part that was built."""
    made: list[Message] = []
    init = Message.__init__

    def counted(self: Message, *args: object, **more: object) -> None:
        made.append(self)
        init(self, *args, **more)  # type: ignore[arg-type]  # passed on as given

    monkeypatch.setattr(Message, "__init__", counted)
    return made


def test_a_letter_of_countless_parts_is_refused_before_they_are_built(built: list[Message]) -> None:
    error = refused(MIXED + b"--a\r\n\r\n\r\n" * 5_000 + b"--a--\r\n")
    assert (error.code, "parts" in error.message, len(built) <= 110) == ("malformed_message", True, True)


def test_a_letter_nested_a_thousand_deep_is_refused_before_it_is_built(built: list[Message]) -> None:
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(900))
    error = refused(HEAD + nested + b"\r\nx\r\n")
    assert (error.code, "nested" in error.message, len(built) <= 20) == ("malformed_message", True, True)


@pytest.mark.parametrize(
    "body",
    [
        HEAD + b"a: b\r\n" * 201 + b"\r\nx",
        MIXED + b"--a\r\n" + b"a: b\r\n" * 2_001 + b"\r\nx\r\n--a--\r\n",
        HEAD + b"\r\n" + b"\r\n" * 1_000_001,
        HEAD + b"X-Long: " + b"x" * 20_001 + b"\r\n\r\nx",
        MIXED + b'--a\r\nContent-Disposition: attachment; x="' + b";" * 4_001 + b'"\r\n\r\nx\r\n--a--\r\n',
    ],
    ids=["headers", "headers of a part", "lines", "a header", "parameters"],
)
def test_what_is_endless_is_refused(body: bytes) -> None:
    assert refused(body).code == "malformed_message"


@pytest.mark.parametrize("charset", ["punycode", "idna", "utf-7", "unicode_escape", "raw_unicode_escape", "UTF7"])
def test_a_codec_that_is_no_charset_is_refused(charset: str) -> None:
    error = refused(HEAD + f"Content-Type: text/plain; charset={charset}\r\n\r\n+2AA-\r\n".encode())
    assert error.code == "malformed_message"


def test_half_a_character_never_gets_out_of_a_subject() -> None:
    found = letter.read(b"From: news@example.org\r\nSubject: =?utf-7?q?+2AA-?=\r\n\r\nx\r\n")
    assert found.subject.encode() == b"=?utf-7?q?+2AA-?="


def test_the_text_of_a_forwarded_message_never_passes_for_the_letters_own() -> None:
    inner = b"Content-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\nSubject: y\r\n\r\nsecret\r\n"
    html = b"--a\r\nContent-Type: text/html\r\n\r\n<p>own</p>\r\n"
    assert refused(MIXED + html + b"--a\r\n" + inner + b"--a--\r\n").code == "content_refused"


def test_a_name_of_a_file_in_a_codec_that_breaks_is_refused_and_not_a_bug() -> None:
    part = b"--a\r\nContent-Disposition: attachment; filename*=idna''%FF%FE\r\n\r\nx\r\n--a--\r\n"
    try:
        found = letter.read(MIXED + b"--a\r\n\r\nx\r\n" + part)
    except Refused:
        return
    assert all(attached.name.isprintable() for attached in found.attachments)


def test_a_letter_at_the_bounds_is_read() -> None:
    parts = b"--a\r\n\r\nhello\r\n" + b"--a\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\nx\r\n" * 90
    found = letter.read(HEAD + b"A: b\r\n" * 190 + MIXED.removeprefix(HEAD) + parts + b"--a--\r\n")
    assert (found.text, len(found.attachments)) == ("hello", 90)
