"""Refused rows as CSV, to be mended and imported again: quoted, and harmless when a spreadsheet opens it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from outrider.domain.contacts.imports.cells import neutral
from outrider.domain.contacts.imports.examine import ProblemView


def as_csv(problems: Iterable[ProblemView]) -> str:
    """RFC 4180 with a header; cells that a spreadsheet would calculate get an apostrophe in front [C33, C34, C64]."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("line", "field", "code", "message", "value"))
    writer.writerows((p.line, *(neutral(cell) for cell in (p.field, p.code, p.message, p.value))) for p in problems)
    return text.getvalue()
