"""Uploads that come in slowly: what still arrives is nobody's leftover, what is dead goes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outrider.domain.contacts.imports import files
from outrider.domain.contacts.imports.files import ImportFiles


async def test_an_upload_that_trickles_is_not_swept_away_under_its_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_WRITTEN_S", 0.0)
    kept, parts = ImportFiles(tmp_path), (b"email\n", b"a@b.co\n", b"c@d.co\n")

    async def stream() -> AsyncIterator[bytes]:
        for part in parts:
            for path in (tmp_path / "imports").iterdir():
                os.utime(path, (1, 1))  # as if the part before had come long ago
            yield part
            kept.sweep(set())

    assert (await kept.receive(stream())).read_bytes() == b"".join(parts)


async def test_what_a_dead_writer_left_is_swept_away_when_it_is_old_and_not_before(tmp_path: Path) -> None:
    kept = ImportFiles(tmp_path)
    (tmp_path / "imports").mkdir()
    dead = tmp_path / "imports" / "0123.part"
    dead.write_bytes(b"half")
    kept.sweep(set())
    assert dead.exists()
    os.utime(dead, (1, 1))
    kept.sweep({dead})
    assert dead.exists(), "an import knows it"
    kept.sweep(set())
    assert not dead.exists()
