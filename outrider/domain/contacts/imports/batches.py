"""Some thousand rows of a file on their way into the database, and what became of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from outrider.domain.contacts.imports.csv_rows import Problem


class Overtaken(Exception):
    """Somebody changed a contact between our look and our write: the batch is repeated."""


@dataclass(slots=True)
class Counts:
    """What became of the rows of one batch; every row that was stored is in one of the first three."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    suppressed: int = 0
    kept_withdrawn: int = 0


@dataclass(slots=True)
class Batch:
    """Rows read and checked. `after_line` is the checkpoint it begins at; `people` are persons or entries."""

    after_line: int
    last_line: int
    row_count: int = 0
    rejected_count: int = 0
    duplicate_count: int = 0
    people: list[Any] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
