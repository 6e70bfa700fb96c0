"""A distribution of a third party, as far as discovery looks: plugins of tests come in by the public door.

API
    path_with(folder, {"outrider.plugins.jobs": ["nothing = bench.kit.nothing:JOB"]}) -> str
        makes the distribution's metadata below `folder`; gives a PYTHONPATH with it and this repository
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def path_with(folder: Path, points: Mapping[str, Sequence[str]]) -> str:
    """Make a distribution that registers these entry points."""
    made = folder / "third_party" / "third_party-1.0.dist-info"
    made.mkdir(parents=True, exist_ok=True)
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    lines = [line for group, entries in points.items() for line in (f"[{group}]", *entries, "")]
    (made / "entry_points.txt").write_text("\n".join(lines))
    return f"{made.parent}:{ROOT}"
