"""Names, types and sizes of files that go with a message."""

from __future__ import annotations

import base64

import pytest

from outrider.base.errors import Refused
from outrider.contracts.channel import Attachment
from outrider.domain.templates import attachments


@pytest.mark.parametrize(
    "name",
    [
        "../../x", "a\\b", "a/b", 'a"\r\nX: 1', "con.txt", "NUL", "aux", "COM1.pdf", "lpt¹", "x.", " x", ".hidden",
        "txt\u202eexe", "a\u200bb", "a\u2028b", "a\0b", "", "x" * 201, "é" * 101, "a:b", "a|b", "a?b",
    ],
)  # fmt: skip
def test_a_name_that_means_something_else_somewhere_is_refused(name: str) -> None:
    with pytest.raises(Refused) as refused:
        attachments.check_name(name, field="/attachments/0/name")
    assert refused.value.field == "/attachments/0/name"


@pytest.mark.parametrize("name", ["report.pdf", "Überblick 2026.xlsx", "console.txt", "a.b.c", "例.txt"])
def test_plain_names_are_kept(name: str) -> None:
    assert attachments.check_name(name, field="x") == name


def test_names_have_one_stored_form() -> None:
    assert attachments.check_name("U\u0308.txt", field="x") == "Ü.txt"


@pytest.mark.parametrize("text", ["YWJ", "YW Jj", "YWJj\n", "YWJj=", "é", "YWJj*"])
def test_base64_is_strict(text: str) -> None:
    with pytest.raises(Refused) as refused:
        attachments.decode("a.txt", "text/plain", text, field="/attachments/0")
    assert (refused.value.code, refused.value.field) == ("invalid_base64", "/attachments/0/content")


def test_a_file_is_decoded_with_its_name_and_type() -> None:
    content = base64.b64encode(b"\x00\xff").decode()
    assert attachments.decode("a.bin", "Application/PDF", content, field="f") == Attachment(
        "a.bin", "application/pdf", b"\x00\xff"
    )


@pytest.mark.parametrize("kind", ["", "pdf", "text/", "multipart/mixed", "message/rfc822", "a/b; x=1", "a/b\r\nc"])
def test_only_a_bare_media_type_of_one_part_is_a_type(kind: str) -> None:
    with pytest.raises(Refused):
        attachments.check_type(kind, field="f")


def test_all_files_together_have_a_limit() -> None:
    half = Attachment("a", "a/b", bytes(attachments.MOST_BYTES // 2))
    attachments.check_total([half, half])
    with pytest.raises(Refused) as refused:
        attachments.check_total([half, half, Attachment("b", "a/b", b"x")])
    assert refused.value.http_status == 413
    with pytest.raises(Refused):
        attachments.check_total([Attachment("a", "a/b", b"")] * (attachments.MOST_FILES + 1))


def test_a_file_that_is_too_large_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(Refused) as refused:
        attachments.decode("a", "a/b", "*" * (attachments.MOST_BYTES * 4 // 3 + 5), field="f")
    assert refused.value.code == "too_large"
