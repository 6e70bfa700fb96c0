"""Options that many commands share, and how their values are read.

Owns names and strictness: digits are ASCII digits, files are regular and readable. Never touches the database.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter, Token

from outrider.base.errors import Refused

_DIGITS = re.compile(r"[0-9]{1,18}")
_LONGEST_NAME: Final = 200


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every command that looks."""

    tenant: Annotated[str | None, Parameter(help="Tenant, by exact name or id; the default tenant when absent.")] = None
    json: Annotated[bool, Parameter(help="Print one JSON document on stdout and nothing else.", negative="")] = False


@Parameter(name="*")
@dataclass(frozen=True)
class Changing(Common):
    """Options of every command that changes something; each change is audited with the reason."""

    reason: Annotated[str, Parameter(help="Why; kept in the audit log.")] = "not given"
    dry_run: Annotated[
        bool, Parameter(help="Do everything but the commit: shows what would happen, writes nothing.", negative="")
    ] = False


@Parameter(name="*")
@dataclass(frozen=True)
class Json:
    """The option of commands that concern no tenant."""

    json: Annotated[bool, Parameter(help="Print one JSON document on stdout and nothing else.", negative="")] = False


COMMON: Final = Common()
CHANGING: Final = Changing()
JSON: Final = Json()


def whole_number(_type: Any, tokens: Sequence[Token]) -> int:
    """Read a whole number: ASCII digits only, no sign, no exponent, no other script."""
    text = tokens[0].value
    if not _DIGITS.fullmatch(text):
        message = "must be a whole number in plain digits"
        raise ValueError(message)
    return int(text)


def between(least: int, most: int) -> Any:
    """A validator for whole numbers: least and most included; what is not given is not checked."""

    def check(_type: Any, value: int | None) -> None:
        if value is not None and not least <= value <= most:
            message = f"must be from {least} to {most}"
            raise ValueError(message)

    return check


Limit = Annotated[
    int,
    Parameter(converter=whole_number, validator=between(1, 1000), help="Most entries to list, 1 to 1000.", n_tokens=1),
]


def readable_file(path: Path, field: str) -> Path:
    """Refuse what is no file that can be read and has something in it.

    Raises:  Refused(file_unusable) on one line, control characters of the name escaped by the printer.
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise Refused("file_unusable", f"{path} is not a file", field=field)
        if facts.st_size == 0:
            raise Refused("file_unusable", f"{path} is empty", field=field)
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Refused("file_unusable", f"{path} cannot be read: {why}", field=field) from None
    return path


def text_of(path: Path, field: str) -> str:
    """What a text file says.

    Raises:  Refused(file_unusable, encoding) for what is no readable file or not UTF-8.
    """
    try:
        return readable_file(path, field).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Refused("encoding", f"{path} is not UTF-8", field=field) from None
