"""Reading CSV row by row in constant memory: physical lines, then records, each with its line number or its problem.

Owns RFC 4180 with any line end; never looks at what a cell means. Python's csv module does the quoting; that it
silently splits a row at a lone carriage return and stops at long fields is handled here [C14, C23 to C25].
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from outrider.base.errors import Refused
from outrider.domain.contacts.imports.sniff import BOM

MOST_RECORD_BYTES = 2_000_000
MOST_RECORD_LINES = 200
_CHUNK_BYTES = 262_144
_END = re.compile(rb"\r\n|[\r\n]")
_LONGEST_ECHO = 100


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a row is refused: where, which field, a stable code, a sentence, and the value, cut short."""

    line: int
    field: str
    code: str
    message: str
    value: str = ""


@dataclass(slots=True)
class Row:
    """One record. `line` is where it begins, `last_line` where it ends; blank records have no cells."""

    line: int
    last_line: int
    cells: list[str]
    problem: Problem | None
    ends_with_cr: bool


def echo(value: str) -> str:
    """A value as it is shown back: at most 100 characters, nothing a terminal or the database chokes on."""
    return "".join(c if c.isprintable() else "\ufffd" for c in value[:_LONGEST_ECHO])


def read_rows(stream: BinaryIO, delimiter: str) -> Iterator[Row]:
    """The records of a file, the header first; blank ones are left out.

    Takes:   a stream at its beginning, open as long as the rows are read.
    Raises:  Refused(line_too_long, unclosed_quote) with the line: the file as a whole cannot be read.
    """
    source = _Lines(stream)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        source.begin()
        problem = None
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cells, problem = [], _csv_problem(error, source)
        row = Row(source.first, source.line, cells, problem or source.problem, source.ends_with_cr)
        if row.problem is not None or any(cell.strip() for cell in cells):
            yield row


def check_counts(rows: Iterator[Row], column_count: int, *, is_cr_file: bool) -> Iterator[Row]:
    """Refuse rows with another number of columns than the header, and what a stray carriage return tore apart [C25].

    A lone CR ends a row like any other line end only where the rows on both of its sides are whole; a file whose
    header ends with one is an old Macintosh file, in which it is the line end.
    """
    before: Row | None = None
    torn = False
    for row in rows:
        _check_count(row, column_count)
        if before is not None:
            torn_here = before.ends_with_cr and not is_cr_file and (_is_odd(before) or _is_odd(row))
            if torn or torn_here:
                _tear(before)
            torn = torn_here
            yield before
        before = row
    if before is not None:
        if torn:
            _tear(before)
        yield before


def _check_count(row: Row, column_count: int) -> None:
    """Cells beyond the header's are allowed where they are empty (a trailing delimiter) [C30]."""
    if row.problem is not None:
        return
    while len(row.cells) > column_count and not row.cells[-1].strip():
        row.cells.pop()
    if len(row.cells) != column_count:
        row.problem = Problem(
            row.line,
            "row",
            "column_count",
            f"has {len(row.cells)} columns, the header {column_count}",
            echo(row.cells[0]),
        )


def _is_odd(row: Row) -> bool:
    return row.problem is not None and row.problem.code in {"column_count", "lone_cr"}


def _tear(row: Row) -> None:
    value = row.problem.value if row.problem else echo(row.cells[0])
    row.problem = Problem(row.line, "row", "lone_cr", "a carriage return stands in the middle of this row", value)


def _csv_problem(error: csv.Error, source: _Lines) -> Problem:
    is_long = "field larger" in str(error)
    if (source.line > source.first and is_long) or "unexpected end" in str(error):
        raise Refused(
            "unclosed_quote",
            f"line {source.first}: a quoted field begins here and does not end",
            field="file",
            line=source.first,
        )
    if is_long:
        limit = csv.field_size_limit()
        return Problem(source.first, "row", "field_too_long", f"a field has more than {limit} characters")
    where = f"lines {source.first} to {source.line}" if source.line > source.first else f"line {source.first}"
    return Problem(source.first, "row", "bad_quotes", f"{where}: text follows a closing quote")


class _Lines:
    """Physical lines as text, counted; remembers where a record began and what was wrong with its bytes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._lines = _split(stream)
        self._record_bytes = 0
        self.line = 0
        self.first = 0
        self.problem: Problem | None = None
        self.ends_with_cr = False

    def begin(self) -> None:
        """A new record begins at the next line."""
        self._record_bytes = 0
        self.first = self.line + 1
        self.problem = None

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        """The next line, with a plain line feed whatever its end was."""
        raw, end = next(self._lines)
        self.line += 1
        self.ends_with_cr = end == b"\r"
        self._record_bytes += len(raw)
        if self._record_bytes > MOST_RECORD_BYTES or self.line - self.first >= MOST_RECORD_LINES:
            raise Refused(
                "unclosed_quote",
                f"line {self.first}: a quoted field begins here and does not end",
                field="file",
                line=self.first,
            )
        try:
            return raw.decode() + "\n"
        except UnicodeDecodeError as error:
            message = f"byte {error.start + 1} of the line (0x{raw[error.start]:02x}) is not UTF-8"
            self.problem = Problem(self.line, "row", "not_utf8", message, echo(raw.decode("utf-8", "replace")))
            return raw.decode("utf-8", "replace") + "\n"


def _split(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Lines and their ends (CRLF, LF or CR); U+0085 and U+2028 are no line ends [C31]."""
    rest = b""
    count = 0
    while True:
        chunk = stream.read(_CHUNK_BYTES)
        rest += chunk
        if count == 0:
            rest = rest.removeprefix(BOM)
        done = 0
        for match in _END.finditer(rest):
            if chunk and match.end() == len(rest) and match[0] == b"\r":
                break  # the other half of a CRLF may be in the next chunk
            count += 1
            yield rest[done : match.start()], match[0]
            done = match.end()
        rest = rest[done:]
        if len(rest) > MOST_RECORD_BYTES:
            message = f"line {count + 1} has more than {MOST_RECORD_BYTES} bytes"
            raise Refused("line_too_long", message, field="file", line=count + 1)
        if not chunk:
            if rest:
                yield rest, b""
            return
