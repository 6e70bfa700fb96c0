"""List the exit codes and what a script may conclude from each."""

from __future__ import annotations

import msgspec
from cyclopts import App

from outrider.interfaces.cli.exits import EXITS
from outrider.interfaces.cli.options import JSON, Json
from outrider.interfaces.cli.output import Answer, table

APP = App(name="exits", help_epilogue="Example: `outrider exits`")


@APP.default
def exits(*, options: Json = JSON) -> Answer:
    """Print the table."""
    del options
    rows = [msgspec.to_builtins(each) for each in EXITS]
    return Answer(rows, table(rows, ("code", "meaning")))
