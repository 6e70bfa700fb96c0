"""The one table of exit codes, from which `outrider exits`, the reference and every error draw theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from outrider.base.errors import Misconfigured, OutriderError, Refused

OK: Final = 0
CHECK_FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 4
UNAVAILABLE: Final = 69
BUG: Final = 70
SYSTEM: Final = 71
OUTPUT_LOST: Final = 74
CONFLICT: Final = 75
NOT_ALLOWED: Final = 77
REFUSES_TO_START: Final = 78
INTERRUPTED: Final = 130
READER_GONE: Final = 141
TERMINATED: Final = 143


@dataclass(frozen=True, slots=True)
class Exit:
    """One code and what a script may conclude from it."""

    code: int
    meaning: str


EXITS: Final = (
    Exit(OK, "done"),
    Exit(
        CHECK_FAILED,
        "a check found something wrong: doctor, data validate, audit verify, campaign preflight, demo, queue drain",
    ),
    Exit(USAGE, "the command line, its input or the settings are wrong; nothing was changed"),
    Exit(NOT_FOUND, "what was named does not exist; nothing was changed"),
    Exit(UNAVAILABLE, "the database or another service is away; try again"),
    Exit(BUG, "a bug in Outrider; please report it"),
    Exit(SYSTEM, "the machine has no memory, threads, files or disk left, or a program file is missing"),
    Exit(OUTPUT_LOST, "the output could not be written (closed, disk full)"),
    Exit(CONFLICT, "somebody else did or is doing the same; look and try again"),
    Exit(NOT_ALLOWED, "the database user, or the user of this machine, may not do that"),
    Exit(REFUSES_TO_START, "a process refuses to start: schema, key, durability or settings; not worth restarting"),
    Exit(INTERRUPTED, "interrupted by Ctrl-C; what had not been committed was rolled back"),
    Exit(READER_GONE, "the reader of the output went away (SIGPIPE)"),
    Exit(TERMINATED, "terminated by SIGTERM before it could finish in order"),
)

_NOT_ALLOWED_CODES: Final = {"database_rights", "database_role"}


def of(error: OutriderError, *, is_process: bool) -> int:
    """The exit code of an error.

    Takes:   is_process: a command that stays (worker, api, up …), where a supervisor must tell "pointless to restart"
             from "try again"; a one-shot command calls wrong settings a usage error.
    """
    if error.code in _NOT_ALLOWED_CODES:
        return NOT_ALLOWED
    if isinstance(error, Misconfigured):
        return REFUSES_TO_START if is_process else USAGE
    if isinstance(error, Refused):
        return error.exit_status
    return error.exit_code
