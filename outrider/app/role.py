"""One role of a family, run by its name: its command line is known, and reading one costs a process memory.

Owns that known command line; how a command ends and is told stays the shell's. Knows nothing of what a role does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from outrider.data import log
from outrider.interfaces.cli import shell

_COMMANDS: Final = "outrider.app.commands"


class _Known:
    """What the shell asks a tree of commands for, where the answer is known: `outrider ROLE --lifeline`."""

    def __init__(self, command: Callable[..., int]) -> None:
        self._command = command

    def parse_args(self, _arguments: list[str], **_options: Any) -> tuple[Callable[..., int], Any, dict[str, Any]]:
        return self._command, inspect.signature(self._command).bind(lifeline=True), {}


def title(role: str) -> str:
    """The command line that does the same."""
    return f"outrider {role} --lifeline"


def run(role: str) -> int:
    """Be a role until its stdin ends or it is told to stop; gives the exit code."""
    log.quiet()
    app: Any = _Known(getattr(import_module(f"{_COMMANDS}.{role}"), role))
    return shell.run([role, "--lifeline"], app, processes=frozenset({role}))
