"""The bytes between 354 and the dot: where they end, however they are cut into chunks."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.interfaces.sandbox.content import NOT_ENDED, DataStream, has_longer_line, identify

PIECES = st.sampled_from([b"\r\n", b"\r\n", b".", b"..", b"\r\n.", b"text", b"\n", b"\r", b"\r\n.\r", b"\n.\n"])


def feed_all(raw: bytes, cuts: list[int], limit_bytes: int = 10_000) -> tuple[DataStream, int]:
    """Feed `raw` cut at these places; gives the stream and how many bytes belong to the message, or NOT_ENDED."""
    stream = DataStream(limit_bytes)
    at = 0
    for cut in sorted({*cuts, len(raw)}):
        if cut <= at or cut > len(raw):
            continue
        used = stream.feed(raw[at:cut])
        if stream.defect:
            return stream, NOT_ENDED
        if used != NOT_ENDED:
            return stream, at + used
        at = cut
    return stream, NOT_ENDED


@given(pieces=st.lists(PIECES, max_size=12), cuts=st.lists(st.integers(0, 60), max_size=12))
def test_a_message_ends_at_the_first_lonely_dot_however_it_is_cut(pieces: list[bytes], cuts: list[int]) -> None:
    raw = b"".join(pieces) + b"\r\n.\r\nQUIT\r\n"
    end = (b"\r\n" + raw).find(b"\r\n.\r\n") + 3
    message = raw[: end - 3]
    is_bare = re.search(rb"\r(?!\n)|(?<!\r)\n", message) is not None
    stream, used = feed_all(raw, cuts)
    if is_bare:
        assert stream.defect in {"bare <CR>", "bare <LF>"}
        return
    assert (stream.defect, used) == ("", end)
    lines = message.split(b"\r\n")
    assert stream.message() == b"\r\n".join(line.removeprefix(b".") for line in lines)
    assert stream.size_bytes == len(message)


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n.\r\r\n", b"\n\n.\r\n"]
)
def test_nothing_but_crlf_dot_crlf_ends_a_message(end: bytes) -> None:
    assert feed_all(b"text" + end + b"MAIL FROM:<a@b>", [])[1] == NOT_ENDED


def test_an_empty_message_ends_at_once() -> None:
    stream, used = feed_all(b".\r\nQUIT\r\n", [])
    assert (used, stream.message()) == (3, b"")


def test_a_message_above_the_limit_is_read_on_and_forgotten() -> None:
    stream, used = feed_all(b"x" * 50 + b"\r\n" * 100 + b".\r\n", [10, 60, 100], limit_bytes=80)
    assert stream.is_too_large
    assert used == 50 + 200 + 3
    assert stream.head() == b""


@pytest.mark.parametrize(("length", "is_longer"), [(997, False), (998, False), (999, True), (5_000, True)])
@pytest.mark.parametrize("before", [0, 1, 13])
def test_the_longest_line_is_found_wherever_it_stands(length: int, before: int, is_longer: bool) -> None:  # noqa: FBT001 -- a parameter of the table
    message = b"x" * 998 * before + b"\r\n" * before if before < 2 else (b"y" * 70 + b"\r\n") * before
    assert has_longer_line(message + b"x" * length + b"\r\nend\r\n", 998) is is_longer


def test_headers_are_found_in_any_case_folded_and_only_in_the_head() -> None:
    message = (
        b"message-ID:\r\n <a@b>\r\nX-Outrider-Message: 0198\r\nx-outrider-attempt:  2 \r\nSubject: x\r\n\r\n"
        b"X-Outrider-Body: no\r\nMessage-ID: <no@no>\r\n"
    )
    assert identify(message) == ("<a@b>", {"message": "0198", "attempt": "2"})


def test_a_message_without_headers_has_no_name() -> None:
    assert identify(b"\r\nMessage-ID: <body@x>\r\n") == (None, {})
    assert identify(b"") == (None, {})


def test_header_bytes_that_are_no_text_do_no_harm() -> None:
    assert identify(b"Message-ID: <\xff\x00>\r\n\r\n") == ("<\ufffd\x00>", {})
