"""Turns what operating system and PostgreSQL's programs report into one line that says who must do what.

Owns the translation; never retries and never logs.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from outrider.base.errors import Misconfigured, OutriderError, Unavailable

_PASSES = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO}
_OPERATORS = ("Read-only file system", "Permission denied", "Address already in use")
_PASSING = ("No space left on device", "Disk quota exceeded", "Cannot allocate memory", "Too many open files")
_TELLING = re.compile(r"\b(?:FATAL|PANIC|error|fatal):\s+(?P<what>.+)", re.IGNORECASE)
_FILES = re.compile(
    r"\bLOG:\s+(?P<what>(?:unrecognized configuration parameter|invalid value for parameter|syntax error in file).+)"
)
_LONGEST_QUOTE = 300


@contextmanager
def plain_errors(doing: str) -> Iterator[None]:
    """Give faults of the operating system as Misconfigured (the operator's) or Unavailable (passing): one line each."""
    try:
        yield
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            "database_slow",
            f"{doing}: {os.path.basename(error.cmd[0])} took more than {error.timeout:g} s",  # noqa: PTH119 - argv is text
        ) from None
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        what = f"{doing}: {error.strerror or error}{where}"
        if error.errno in _PASSES:
            raise Unavailable("database_resources", f"{what}; make room and start again", retry_after_s=10) from None
        raise Misconfigured("database_files", what, field="OUTRIDER_DATA_DIR") from None


def telling_line(output: str) -> str:
    """Pick the line of a PostgreSQL program's output that names the cause: the last FATAL, PANIC or error.

    Of a faulty configuration file the FATAL line only says that it is faulty; the line before says where.
    """
    for line in output.splitlines():
        if match := _FILES.search(line):
            return match["what"].strip()[:_LONGEST_QUOTE]
    found = [match["what"].strip() for line in output.splitlines() if (match := _TELLING.search(line))]
    lines = output.strip().splitlines()
    return (found or lines or ["it said nothing"])[-1][:_LONGEST_QUOTE]


def refuse(doing: str, output: str) -> NoReturn:
    """Raise for a failed program by what it printed.

    Raises:  Unavailable(database_resources) when room or memory lacks; else Misconfigured(database_does_not_start).
    """
    # the FATAL line may come before the line with the operating system's reason
    reason = next((text for text in (*_PASSING, *_OPERATORS) if text in output), "")
    cause = telling_line(output)
    what = f"{doing}: {cause}" + (f" ({reason})" if reason and reason not in cause else "")
    error: OutriderError = (
        Unavailable("database_resources", what, retry_after_s=10)
        if reason in _PASSING
        else Misconfigured("database_does_not_start", what, field="OUTRIDER_DATA_DIR")
    )
    raise error
