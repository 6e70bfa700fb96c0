"""The ledger of an API sandbox: it goes on after half a line, and touches no file that is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outrider.base.errors import Misconfigured
from outrider.interfaces.sandbox.lines import Lines, Numbered, read


class Entry(Numbered, kw_only=True):
    text: str


def written(path: Path, *texts: str) -> None:
    ledger = Lines(path, Entry)
    ledger.add([Entry(seq=0, text=text) for text in texts])
    ledger.close()


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_what_is_written_after_half_a_line_is_read_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "ledger"
    written(path, "one", "two")
    os.truncate(path, path.stat().st_size - cut)
    written(path, "three")
    assert [(each.seq, each.text) for each in read(path, Entry)] == [(1, "one"), (2, "three")]


@pytest.mark.parametrize("said", [b"no ledger at all", b'{"seq":1,"text":"one"}\nnor this', b"nothing\n"])
def test_a_file_that_is_no_ledger_is_refused_and_stays_as_it_is(tmp_path: Path, said: bytes) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(said)
    with pytest.raises(Misconfigured) as refused:
        Lines(path, Entry)
    assert (refused.value.code, path.read_bytes()) == ("ledger_unusable", said)


def test_what_does_not_fit_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger"
    written(path, "one")
    ledger, write = Lines(path, Entry), os.write

    def full(fd: int, data: memoryview) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return write(fd, data[: len(data) - 10])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        ledger.add([Entry(seq=0, text="two")])
    monkeypatch.undo()
    ledger.add([Entry(seq=0, text="three")])
    ledger.close()
    assert [(each.seq, each.text) for each in read(path, Entry)] == [(1, "one"), (2, "three")]
