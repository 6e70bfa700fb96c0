"""Which commands there are and what they get: the tree of commands, the doors, the discovery of processes."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from outrider.app import commands
from outrider.data import log
from outrider.data.embedded_postgres import leave_pid_1
from outrider.interfaces.cli import commands as cli_commands
from outrider.interfaces.cli import doors, shell

PROCESSES: Final = frozenset(
    module.name.rpartition(".")[2].replace("_", "-") for module in pkgutil.iter_modules(commands.__path__)
)
"""Commands that stay until they are told to stop."""


def start(arguments: Sequence[str]) -> int:
    """Run one command line."""
    leave_pid_1()
    log.quiet()
    doors.install(
        doors.Doors(
            settings=lambda: _wiring().settings(),
            address=lambda: _wiring().address(),
            database=lambda: _wiring().database(),
            runtime=lambda: _wiring().cli_runtime(),
        )
    )
    app = shell.build([cli_commands.__name__, commands.__name__])
    return shell.run(arguments, app, processes=PROCESSES)


def _wiring() -> Any:
    """The wiring, loaded when a command opens a door: help and usage errors come without it."""
    return import_module("outrider.app.wiring")
