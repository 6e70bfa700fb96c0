"""What commands get from the app: the doors, which load the wiring when one of them is opened."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from outrider.interfaces.cli import doors


def install() -> None:
    """Put the doors in place."""
    doors.install(
        doors.Doors(
            settings=lambda: _wiring().settings(),
            address=lambda: _wiring().address(),
            database=lambda: _wiring().database(),
            runtime=lambda: _wiring().cli_runtime(),
        )
    )


def _wiring() -> Any:
    """The wiring, loaded when a command opens a door: help and usage errors come without it."""
    return import_module("outrider.app.wiring")
