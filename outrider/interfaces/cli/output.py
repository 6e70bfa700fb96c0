"""What commands print: one answer each, as text for people or one JSON document, on a stdout that may be broken.

Owns encoding, escaping and the loss of output; never decides what is said. Errors and progress go to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from outrider.interfaces.cli import exits


class OutputLost(Exception):
    """Nobody will read the output: closed, full or gone."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command has to say: `data` for programs (--json), `text` for people."""

    data: Any
    text: str = ""
    exit_code: int = exits.OK


def emit(answer: Answer, *, as_json: bool) -> None:
    """Print an answer and make sure that it left this process.

    Raises:  OutputLost.
    """
    if as_json:
        write(to_json(answer.data) + "\n")
    elif answer.text:
        write(answer.text if answer.text.endswith("\n") else answer.text + "\n")


def to_json(data: Any) -> str:
    """One line of JSON in ASCII: readable under every locale. Names of fields are the API's."""
    return json.dumps(msgspec.to_builtins(data, enc_hook=str, str_keys=True), ensure_ascii=True)


def write(text: str) -> None:
    """Write text to stdout and flush it.

    Raises:  OutputLost when stdout is closed, its reader went away or its disk is full.
    """
    try:
        if sys.stdout is None:
            raise OutputLost(exits.OUTPUT_LOST)
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        forget_stdout()
        raise OutputLost(exits.READER_GONE) from None
    except (OSError, ValueError):
        forget_stdout()
        raise OutputLost(exits.OUTPUT_LOST) from None


def forget_stdout() -> None:
    """Point stdout to nowhere, so that the interpreter's last flush does not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def say(text: str) -> None:
    """Write a line to stderr; nothing happens when there is none."""
    try:
        if sys.stderr is not None:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
    except (OSError, ValueError):
        return


def fail(message: str) -> None:
    """Print an error: `error: …` on one line, or two when it has a second sentence too long for one."""
    say(f"error: {one_line(message)}")


def one_line(value: object) -> str:
    """A value for a terminal or a table: control characters made visible, never a second line."""
    text = "" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, empty: str = "nothing") -> str:
    """Aligned columns under their names; numbers to the right."""
    if not rows:
        return f"({empty})"
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    is_number = [all(_is_number(row.get(column)) for row in rows) for column in columns]
    widths = [max(len(title), *(len(line[index]) for line in cells)) for index, title in enumerate(columns)]
    lines = [[title.replace("_", " ") for title in columns], *cells]
    return "\n".join(
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, is_number, strict=True)
        ).rstrip()
        for line in lines
    )


def facts(pairs: Mapping[str, Any]) -> str:
    """Names and values, one per line, values aligned."""
    width = max((len(name) for name in pairs), default=0)
    return "\n".join(f"{name.replace('_', ' '):<{width}}  {_cell(value)}".rstrip() for name, value in pairs.items())


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.1f}"
    if hasattr(value, "strftime") and hasattr(value, "hour"):
        return str(value.strftime("%Y-%m-%d %H:%M:%S%z"))
    return one_line(value)
