"""Giving a file of ours to whoever runs a command: new, private, whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from outrider.base.errors import Misconfigured, Refused


def check_new(path: Path) -> None:
    """Refuse to write over a file.

    Raises:  Refused(file_exists).
    """
    if path.exists():
        raise Refused("file_exists", f"{path} exists already", field="--to")


def copy(path: Path, to: Path) -> None:
    """Copy a file to a new one, mode 0600.

    Raises:  Misconfigured(file_unusable).
    """
    with _new(to) as target, path.open("rb") as source:
        shutil.copyfileobj(source, target)


def write(text: str, to: Path) -> None:
    """Write a text to a new file, mode 0600.

    Raises:  Misconfigured(file_unusable).
    """
    with _new(to) as target:
        target.write(text.encode())


@contextmanager
def _new(to: Path) -> Iterator[BinaryIO]:
    """A new file that only its owner reads."""
    try:
        fd = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as target:
            yield target
    except OSError as error:
        raise Misconfigured("file_unusable", f"{to} cannot be written: {error.strerror}", field="--to") from error
