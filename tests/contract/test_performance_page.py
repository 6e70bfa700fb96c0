"""docs/performance.md: every row of its tables has a command that can be typed, by files and options that there are."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
THE_SAME = "the same"


def _rows() -> list[list[str]]:
    """The cells of every row of the page's tables, heads left out."""
    found: list[list[str]] = []
    for block in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        lines = block.splitlines()[2:]
        found += [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    return found


ROWS = _rows()
COMMANDS = sorted({row[-1].strip("` ") for row in ROWS} - {THE_SAME})


def test_every_row_says_what_was_measured_and_what_was_wanted() -> None:
    assert len(ROWS) > 35
    assert {len(row) for row in ROWS} == {6}
    for figure, ours, peer, _ratio, wanted, _command in ROWS:
        assert all((figure, ours, peer, wanted)), figure


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_every_row_ends_with_one_command_or_that_of_the_row_above(row: list[str]) -> None:
    assert row[-1] == THE_SAME or re.fullmatch(r"`(\.venv/bin/python )?bench/\w+\.py( [^`]*)?`", row[-1]), row[-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_a_file_and_options_that_there_are(command: str) -> None:
    path, *words = command.removeprefix(".venv/bin/python ").split()
    source = (ROOT / path).read_text(encoding="utf-8")
    known = set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', source))
    assert {word for word in words if word.startswith("--")} <= known
    parts = re.search(r"^PARTS = \(([^)]*)\)", source, re.MULTILINE)
    for name, values in pairwise(words):
        if name == "--only":
            assert parts is not None, f"{path} has no parts"
            assert set(values.split(",")) <= set(re.findall(r'"([^"]+)"', parts[1]))


def test_every_file_of_the_benchmarks_is_on_the_page() -> None:
    files = {path.name for path in (ROOT / "bench").glob("*.py")}
    assert files == set(re.findall(r"bench/(\w+\.py)", PAGE))
