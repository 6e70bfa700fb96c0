"""Cells that a spreadsheet would calculate: made harmless on the way out, as they were on the way in. Pure."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Full-width signs too: spreadsheets of some languages calculate them."""


def neutral(cell: str) -> str:
    """A cell that is text to every spreadsheet (CWE-1236, ASVS V1.2.10); `plain` gives it back as it was."""
    return f"'{cell}" if cell.lstrip("'").startswith(_FORMULA) else cell


def plain(cell: str) -> str:
    """A cell without the apostrophe that `neutral` put in front of it."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA) else cell
