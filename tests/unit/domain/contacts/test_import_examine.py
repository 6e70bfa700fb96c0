"""A file that is read, to be examined or imported, leaves the interpreter to others again and again."""

from __future__ import annotations

import time
from io import BufferedReader, BytesIO

import pytest

from outrider.domain.contacts.imports.examine import body


def test_who_reads_a_file_lets_others_have_the_interpreter_every_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[float] = []
    monkeypatch.setattr(time, "sleep", left.append)
    text = b"email\n" + b"".join(b"p%d@example.org\n" % number for number in range(1_000))
    rows = list(body(BufferedReader(BytesIO(text)), ",", 1))
    assert len(rows) == 1_000
    assert left == [0] * 40
