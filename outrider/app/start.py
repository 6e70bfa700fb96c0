"""Which commands there are: the tree of commands, the discovery of processes."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from outrider.app import commands
from outrider.data import log
from outrider.data.embedded_postgres import leave_pid_1
from outrider.interfaces.cli import commands as cli_commands
from outrider.interfaces.cli import shell

PROCESSES: Final = frozenset(
    module.name.rpartition(".")[2].replace("_", "-") for module in pkgutil.iter_modules(commands.__path__)
)
"""Commands that stay until they are told to stop."""


def start(arguments: Sequence[str]) -> int:
    """Run one command line."""
    leave_pid_1()
    log.quiet()
    if not arguments or arguments[0] not in PROCESSES:
        import_module("outrider.app.doorways").install()  # processes open none: the one above the others stays small
    app = shell.build([cli_commands.__name__, commands.__name__])
    return shell.run(arguments, app, processes=PROCESSES)
