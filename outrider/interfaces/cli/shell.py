"""Running one command line: parsing, calling, printing, and turning every failure into one line and an exit code.

Owns the discovery of commands and the last net under them: whatever happens, no traceback reaches a person.
"""

from __future__ import annotations

import asyncio
import inspect
import pkgutil
import sys
from collections.abc import Coroutine, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import structlog
from cyclopts import App
from cyclopts.exceptions import CycloptsError

from outrider import __version__
from outrider.base.errors import Broken, OutriderError, RefusedMany
from outrider.data.log import clean
from outrider.interfaces.cli import exits, output, usage
from outrider.interfaces.cli.output import Answer, OutputLost

_HELP: Final = ("--help", "-h")
_MOST_ERRORS: Final = 20
_LONGEST_BUG: Final = 200
_NO_THREAD: Final = "can't start new thread"
_log = structlog.get_logger(__name__)


def build(packages: Sequence[str]) -> App:
    """The command tree: every file of the packages is a command, imported when it is called."""
    root = App(
        name="outrider",
        help="Self-hosted messaging operations: one durable pipeline, gates, a kill switch and a proof.",
        version=__version__,
        version_flags=["--version"],
        help_format="plaintext",
    )
    for package in packages:
        for module in pkgutil.iter_modules(import_module(package).__path__, f"{package}."):
            name = module.name.rpartition(".")[2].replace("_", "-")
            root.command(f"{module.name}:APP", name=name, help=_first_line(module))
    return root


def run(arguments: Sequence[str], app: App, *, processes: frozenset[str] = frozenset()) -> int:
    """Run one command line to its end.

    Takes:   processes: names of commands that stay; their settings errors have another exit code (exits.py).
    Gives:   the exit code. Everything was printed.
    """
    is_process = bool(arguments) and arguments[0] in processes
    try:
        return _run(arguments, app)
    except OutriderError as error:
        return _told(error, is_process=is_process)
    except BaseException as error:  # noqa: BLE001 - the last net: whatever it is, it is told in one line
        return _caught(error, is_process=is_process)


def _told(error: OutriderError, *, is_process: bool) -> int:
    """Print an error that was foreseen."""
    if isinstance(error, Broken):
        return _bug(error, is_process=is_process)
    if isinstance(error, RefusedMany):
        for each in error.errors[:_MOST_ERRORS]:
            output.fail(_text(each))
        if len(error.errors) > _MOST_ERRORS:
            output.fail(f"and {len(error.errors) - _MOST_ERRORS} more")
    else:
        output.fail(_text(error))
    return exits.of(error, is_process=is_process)


def _text(error: OutriderError) -> str:
    """The field as a person calls it here (an API would say `/name`), then what to do."""
    field = (error.field or "").strip("/")
    return f"{field}: {error.message}" if field else error.message


def _caught(error: BaseException, *, is_process: bool) -> int:
    """Print everything else: usage, signals, the machine's limits, bugs."""
    match error:
        case OutputLost():
            return error.exit_code
        case CycloptsError():
            output.fail(usage.told(error))
            return exits.USAGE
        case KeyboardInterrupt() | asyncio.CancelledError():
            output.fail("interrupted")
            return exits.INTERRUPTED
        case MemoryError():
            output.fail("out of memory; nothing was left half-done")
            return exits.SYSTEM
        case RuntimeError() if str(error) == _NO_THREAD:
            output.fail("the machine gives this process no more threads or memory (ulimit -u, ulimit -v)")
            return exits.SYSTEM
        case ImportError():
            output.fail(f"Outrider's program files cannot be loaded: {error.__cause__ or error}")
            return exits.SYSTEM
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            output.fail(f"{where}{error.strerror or str(error) or type(error).__name__}")
            return exits.SYSTEM
        case SystemExit():
            return error.code if isinstance(error.code, int) else exits.OK
    return _bug(error, is_process=is_process)


def _run(arguments: Sequence[str], app: App) -> int:
    if not arguments or arguments[-1] in _HELP:
        app.console = _console()
    command, bound, _ignored = app.parse_args(list(arguments), print_error=False, exit_on_error=False)
    result = command(*bound.args, **bound.kwargs)
    if inspect.iscoroutine(result):
        result = _complete(result)
    if isinstance(result, Answer):
        output.emit(result, as_json=_wants_json(bound))
        return result.exit_code
    return result if isinstance(result, int) else exits.OK


def _complete(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a command's coroutine; Ctrl-C cancels it, so that its transaction rolls back before the process ends."""
    with asyncio.Runner() as runner:
        return runner.run(work)


def _wants_json(bound: inspect.BoundArguments) -> bool:
    return any(getattr(value, "json", False) is True for value in bound.arguments.values())


def _bug(error: BaseException, *, is_process: bool) -> int:
    """Log the trace, at once where a log is kept (processes), on request for a command; tell it in one line."""
    (_log.error if is_process else _log.debug)("command_failed", exc_info=error)
    first = (str(error).splitlines() or [""])[0][:_LONGEST_BUG]
    output.fail(
        f"this is a bug in Outrider ({type(error).__name__}: {clean(first)}); run it again with "
        "OUTRIDER_LOG_LEVEL=debug for the trace and report it"
    )
    return exits.BUG


def _first_line(module: pkgutil.ModuleInfo) -> str:
    """The first line of a command's docstring, read without importing it and also under -OO."""
    finder: Any = module.module_finder
    spec = finder.find_spec(module.name)
    path = Path(spec.origin) if spec and spec.origin else None
    if path is None or path.suffix != ".py":
        return ""
    with path.open(encoding="utf-8") as file:
        return file.readline().strip().strip('"').strip()


def _console() -> Any:
    """A console for help texts whose reader may go away."""
    rich_console: Any = import_module("rich.console")

    class Help(rich_console.Console):  # type: ignore[misc]  # its class is loaded at run time, for a quick start
        def on_broken_pipe(self) -> None:
            output.forget_stdout()
            raise OutputLost(exits.READER_GONE)

    return Help(file=sys.stdout)
