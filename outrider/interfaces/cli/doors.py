"""What the app hands to commands: ways to the settings, the database and the runtime.

Owns the slot they are kept in; commands open a door when they need it, so that `--help` opens none.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass

from outrider.base.errors import Broken
from outrider.base.settings import Settings
from outrider.data.db import Database
from outrider.data.runtime import Runtime

_current: ContextVar[Doors | None] = ContextVar("outrider_doors", default=None)


@dataclass(frozen=True, slots=True)
class Doors:
    """`address` gives the URL of a database that runs (an embedded one is started for the time of the command).

    `database` also makes sure of its schema, `runtime` of the secret key and the plugins too.
    """

    settings: Callable[[], Settings]
    address: Callable[[], AbstractAsyncContextManager[str]]
    database: Callable[[], AbstractAsyncContextManager[Database]]
    runtime: Callable[[], AbstractAsyncContextManager[Runtime]]


def install(doors: Doors) -> None:
    """Put the doors in place, once, before a command runs."""
    _current.set(doors)


def doors() -> Doors:
    """The doors of this process.

    Raises:  Broken when a command is run without the app.
    """
    found = _current.get()
    if found is None:
        raise Broken("no_doors", "commands are run by outrider.app.main")
    return found
