"""How figures are reported: medians with all their runs, tables, and a line about the machine. Never measures.

Owns as well how the parts of a benchmark are named on its command line.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence


def parts(*known: str) -> Callable[[str], frozenset[str]]:
    """How the value of `--only` is read: names of parts, with commas between them."""

    def read(text: str) -> frozenset[str]:
        wanted = frozenset(text.split(","))
        if unknown := wanted - {*known}:
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: none of {', '.join(known)}")
        return wanted

    return read


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them, each at least 1."""
    try:
        found = tuple(int(each) for each in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text}: whole numbers from 1 on, with commas between them")
    return found


def say(text: str) -> None:
    """Tell the person at the terminal how far it is; results go to stdout, this goes to stderr."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def machine() -> str:
    """One line about where this was measured."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {memory_gb:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, load before {os.getloadavg()[0]:.2f}"
    )


def median(values: Sequence[float]) -> float:
    """The middle of several runs."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def runs(values: Sequence[float], digits: int = 0) -> str:
    """Median and all runs, as printed in every table."""
    return f"{median(values):,.{digits}f} ({', '.join(f'{value:,.{digits}f}' for value in values)})"


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table; the first row is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    sys.stdout.flush()


def verdict(what: str, figure: float, wanted: float, *, at_most: bool = False, unit: str = "x") -> bool:
    """Print whether a figure reaches what is wanted; gives whether it does."""
    is_met = figure <= wanted if at_most else figure >= wanted
    bound = "at most" if at_most else "at least"
    print(f"{what}: {figure:,.2f} {unit} (wanted {bound} {wanted:g}): {'met' if is_met else 'NOT MET'}")
    return is_met
