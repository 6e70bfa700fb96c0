"""The command line's page: every command with its options, and the table of exit codes."""

from __future__ import annotations

import re
import sys
from unittest.mock import patch

from outrider.app import commands as processes
from outrider.interfaces.cli import commands, shell
from outrider.interfaces.cli.exits import EXITS
from tools.reference.markdown import page, table

_INTRODUCTION = """
`outrider COMMAND --help` says the same. Commands work on the database directly, also while the API is down.
`--json` prints one JSON document on stdout and nothing else; errors are one line each on stderr; progress is drawn on
stderr when it is a terminal. Tenants are named exactly, upper and lower case included.
"""


def render() -> str:
    """The whole page."""
    app = shell.build([commands.__name__, processes.__name__])
    with patch.object(sys, "argv", ["outrider"]):  # usage lines name the program that runs
        text = app.generate_docs(output_format="markdown", recursive=True)
    body = text[text.index("\n## outrider ") :]
    codes = table(("code", "meaning"), [(str(each.code), each.meaning) for each in EXITS])
    plain = re.sub(r"\n{3,}", "\n\n", body)
    return page("Command line", _INTRODUCTION, "## Exit codes", codes, plain)
