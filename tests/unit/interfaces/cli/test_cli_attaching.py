"""What the name of a file says about its type, the same on every machine."""

from __future__ import annotations

import pytest

from outrider.interfaces.cli.attaching import guessed


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("invoice.pdf", "application/pdf"),
        ("LETTER.PDF", "application/pdf"),
        ("photo.jpeg", "image/jpeg"),
        ("list.csv", "text/csv"),
        ("prices.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("letter.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("meeting.ics", "text/calendar"),
        ("logs.tar.gz", "application/gzip"),
        ("logs.txt.bz2", "application/x-bzip2"),
        ("plan.svgz", "application/gzip"),
        ("no-ending", "application/octet-stream"),
        ("what.is-this", "application/octet-stream"),
        ("forwarded.eml", "application/octet-stream"),
        ("data,text.txt", "text/plain"),
        ("ünïcödé.txt", "text/plain"),
    ],
)
def test_a_files_name_tells_its_type_and_a_mail_goes_as_bytes(name: str, expected: str) -> None:
    assert guessed(name) == expected
