"""Refused rows as CSV, to be mended and imported again: quoted, and harmless when a spreadsheet opens it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from outrider.domain.contacts.imports.examine import ProblemView

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Full-width signs too: spreadsheets of some languages calculate them."""


def as_csv(problems: Iterable[ProblemView]) -> str:
    """RFC 4180 with a header; cells that a spreadsheet would calculate get an apostrophe in front [C33, C34, C64]."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("line", "field", "code", "message", "value"))
    writer.writerows((p.line, *(neutral(cell) for cell in (p.field, p.code, p.message, p.value))) for p in problems)
    return text.getvalue()


def neutral(cell: str) -> str:
    """A cell that is text to every spreadsheet (CWE-1236, ASVS V1.2.10)."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
