"""Examining a file before anything of it is stored: what refuses it as a whole is found here, not half-way.

Runs in a thread: it reads the file from end to end. Never opens a connection.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from io import BufferedReader
from itertools import islice
from pathlib import Path

import msgspec

from outrider.base.errors import Refused
from outrider.contracts.channel import Channel
from outrider.domain.contacts.attributes import Typed
from outrider.domain.contacts.imports.cells import plain
from outrider.domain.contacts.imports.csv_rows import Problem, Row, check_counts, echo, read_rows
from outrider.domain.contacts.imports.options import (
    DELIMITERS,
    MOST_COLUMNS,
    Column,
    Delimiter,
    Options,
    check_options,
    map_columns,
)
from outrider.domain.contacts.imports.readers import reader_of
from outrider.domain.contacts.imports.sniff import SAMPLE_BYTES, check_sample

_TRIED_ROWS = 1_000
_SHOWN_PROBLEMS = 20
_EXAMPLES = 3
_BOM = "\ufeff"
_LOOKED_AT_ROWS = 100
_LEAST_SHARE = 0.5
_YIELD_ROWS = 25


class ProblemView(msgspec.Struct, frozen=True):
    """Why a row would be, or was, refused."""

    line: int
    field: str
    code: str
    message: str
    value: str


class FileFacts(msgspec.Struct, frozen=True):
    """What a file is: shown before an import, and kept with it.

    `problems` are those of the first thousand rows, at most twenty; `row_count` is without the header and blank rows;
    `examples` are the cells of the first three whole rows, cut short, to choose a mapping by.
    """

    sha256: str
    size_bytes: int
    delimiter: Delimiter
    columns: list[Column]
    row_count: int
    problems: list[ProblemView]
    examples: list[list[str]] = []


def examine(
    path: Path, options: Options, channel: Channel, definitions: Mapping[str, Typed] | None = None
) -> FileFacts:
    """Read a file from end to end and say what it is.

    Takes:   definitions: what the tenant's attributes hold; cells of others stay text.
    Raises:  Refused naming the file or the option, with code and line, when no row of it may be imported.
    """
    check_options(options)
    with open_file(path) as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size_bytes = stream.tell()
        stream.seek(0)
        check_sample(stream.read(SAMPLE_BYTES))
        delimiter, columns = _header(stream, options, channel, definitions or {})
        reader = reader_of(columns, options, channel)
        problems: list[Problem] = []
        examples: list[list[str]] = []
        row_count = 0
        for row in body(stream, delimiter, len(columns)):
            row_count += 1
            if len(examples) < _EXAMPLES and row.problem is None:
                examples.append([echo(cell) for cell in row.cells])
            if row_count <= _TRIED_ROWS and len(problems) < _SHOWN_PROBLEMS:
                found = reader.read(row)
                problems.extend(found if isinstance(found, list) else ())
    shown = [ProblemView(p.line, p.field, p.code, p.message, p.value) for p in problems[:_SHOWN_PROBLEMS]]
    return FileFacts(digest, size_bytes, delimiter, columns, row_count, shown, examples)


def body(stream: BufferedReader, delimiter: str, column_count: int) -> Iterator[Row]:
    """The rows below the header, from the beginning of the file, each with its problem if it has one."""
    stream.seek(0)
    rows = read_rows(stream, delimiter)
    header = next(rows)
    return _considerate(map(_as_meant, check_counts(rows, column_count, is_cr_file=header.ends_with_cr)))


def _considerate(rows: Iterator[Row]) -> Iterator[Row]:
    """The rows, with the interpreter left to others now and then: requests go on while an API process reads a file."""
    for number, row in enumerate(rows):
        if number % _YIELD_ROWS == 0:
            time.sleep(0)
        yield row


def _as_meant(row: Row) -> Row:
    """A row without the apostrophes that an export of ours put in front of what a spreadsheet would calculate."""
    if any(cell.startswith("'") for cell in row.cells):
        row.cells = [plain(cell) for cell in row.cells]
    return row


def open_file(path: Path) -> BufferedReader:
    """A plain file, opened for reading [L44].

    Raises:  Refused naming what it is instead.
    """
    try:
        if not path.is_file():
            kind = "a directory" if path.is_dir() else "missing or not a plain file"
            raise Refused("no_file", f"{str(path)[:200]!r} is {kind}", field="file")
        return path.open("rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise Refused("no_file", f"{str(path)[:200]!r} cannot be read: {reason}", field="file") from None


def _header(
    stream: BufferedReader, options: Options, channel: Channel, definitions: Mapping[str, Typed]
) -> tuple[Delimiter, list[Column]]:
    """The delimiter, chosen or found, and the columns [C22].

    A delimiter is right when the header has an address column by it; of several, the one with most columns.
    """
    tried: dict[Delimiter, list[Column]] = {}
    first_refusal: Refused | None = None
    for delimiter in (options.delimiter,) if options.delimiter else DELIMITERS:
        try:
            tried[delimiter] = map_columns(_first_row(stream, delimiter), options, definitions)
        except Refused as refused:
            first_refusal = _telling(first_refusal, refused)
    if not tried:
        if first_refusal is not None and first_refusal.code == "bad_header":
            _propose(stream, options, channel)
        raise first_refusal or Refused("empty", "the file is empty", field="file")
    best = max(tried, key=lambda delimiter: len(tried[delimiter]))
    return best, tried[best]


def _first_row(stream: BufferedReader, delimiter: str) -> list[str]:
    stream.seek(0)
    row = next(read_rows(stream, delimiter), None)
    if row is None:
        raise Refused("empty", "the file is empty", field="file")
    if row.problem is not None:
        raise Refused(row.problem.code, f"the header: {row.problem.message}", field="file", line=row.line)
    if len(row.cells) > MOST_COLUMNS:
        message = f"has {len(row.cells)} columns, at most {MOST_COLUMNS} are possible"
        raise Refused("too_many_columns", message, field="file", line=row.line)
    return row.cells


def _telling(first: Refused | None, other: Refused) -> Refused:
    """Of two refusals of a header the one that says more: anything but that no column was recognised."""
    return other if first is None or (first.code == "bad_header" and other.code != "bad_header") else first


def _propose(stream: BufferedReader, options: Options, channel: Channel) -> None:
    """Name the column whose cells look like addresses, though its header does not; it is bound only when chosen.

    Raises:  Refused(no_address_column) with the mapping to give.
    """
    for delimiter in (options.delimiter,) if options.delimiter else DELIMITERS:
        stream.seek(0)
        rows = [row.cells for row in islice(read_rows(stream, delimiter), _LOOKED_AT_ROWS + 1) if row.problem is None]
        if len(rows) < 2:  # noqa: PLR2004 - a header and something below it
            continue
        header, *cells = rows
        for position, name in enumerate(header[:MOST_COLUMNS]):
            count = sum(_is_address(row[position], channel, options.region) for row in cells if position < len(row))
            if count > len(cells) * _LEAST_SHARE and not _is_address(name, channel, options.region):
                proposal = f"{name.strip().lstrip(_BOM)}=address"
                message = f"no column is called an address, but one holds them; map it: {echo(proposal)}"
                raise Refused("no_address_column", message, field="mapping", proposal=echo(proposal))


def _is_address(cell: str, channel: Channel, region: str) -> bool:
    try:
        return bool(channel.normalise(cell.strip(), region=region))
    except Refused:
        return False
