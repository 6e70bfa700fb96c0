"""Trying links from the command line: the option, and what became of each.

Owns the wording; the trying is `data.link_dial`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from outrider.data.link_dial import Dialled
from outrider.interfaces.cli.output import table

Dial = Annotated[
    bool, Parameter(negative="", help="Also ask each link's server, over the network, whether something is there.")
]
_COLUMNS = ("verdict", "status", "code", "url", "final_url", "detail")


def told_dialled(dialled: Sequence[Dialled]) -> str:
    """What became of links that were tried."""
    rows = [asdict(each) for each in dialled]
    for row in rows:
        row["final_url"] = row["final_url"] if row["hop_count"] else ""
    return table(rows, _COLUMNS, empty="no links that could be tried")
