"""Taking a message apart for the inbox: text, HTML and attachments, whatever arrives."""

from __future__ import annotations

from email.message import EmailMessage

from outrider.interfaces.sandbox import inbox, letter
from outrider.interfaces.sandbox.letter import Attachment
from tests.unit.interfaces.sandbox.test_sandbox_inbox import POLYGLOT, record


def _invoice(name: str) -> bytes:
    message = EmailMessage()
    message["Subject"] = "Rechnung für 🎉"
    message.set_content("text\n")
    message.add_alternative("<p>html</p>", subtype="html")
    message.add_attachment("not the text\n", filename="notes.txt")
    message.add_attachment(b"12345", maintype="application", subtype="pdf", filename=name)
    return message.as_bytes()


def test_text_html_and_attachments_are_told_apart() -> None:
    found = letter.read(_invoice("für Ana.pdf"))
    assert (found.text, found.html) == ("text\n", "<p>html</p>\n")
    assert found.attachments == [
        Attachment("notes.txt", "text/plain", 13),
        Attachment("für Ana.pdf", "application/pdf", 5),
    ]
    assert ("Subject", "Rechnung für 🎉") in found.headers


def test_names_of_attachments_are_escaped() -> None:
    page = inbox.message_page(record(), _invoice(POLYGLOT)).decode()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_parts_beyond_the_first_text_and_html_are_attachments() -> None:
    body = b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' + b"".join(
        b"--b\r\nContent-Type: text/%s\r\n\r\n%d\r\n" % (kind, number)
        for number, kind in enumerate((b"plain", b"html", b"html", b"plain"))
    )
    found = letter.read(body + b"--b--\r\n")
    assert (found.text, found.html) == ("0", "1")
    assert [(each.name, each.kind) for each in found.attachments] == [("", "text/html"), ("", "text/plain")]


def test_a_message_that_is_nothing_is_read_as_an_empty_text() -> None:
    for body in (b"", b"\r\n", b"\xff\x00"):
        assert letter.read(body).html is None
        assert letter.read(body).attachments == []
