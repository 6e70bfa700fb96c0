"""Entry point and wiring: `outrider = outrider.app:main`.

Owns the first and last lines of every process: broken standard streams, missing program files, the exit code. Imports
nothing heavy by itself, so that even a broken installation fails in one line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from outrider import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and give its exit code; never raises, never prints a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _mend_streams()
    try:
        if arguments == ["--version"]:
            return _print_version()
        load_log_without_rich()
        # imported here: start-up of the command line, and a missing or broken dependency must be told in one line
        from outrider.app.start import start  # noqa: PLC0415

        return start(arguments)
    except KeyboardInterrupt:
        _say("error: interrupted")
        return 130
    except MemoryError:
        _say("error: out of memory")
        return 71
    except (ImportError, OSError) as error:
        _say(f"error: Outrider's program files cannot be loaded: {error}")
        return 71


def load_log_without_rich() -> None:
    """Have structlog imported as where rich is not installed: its pretty traces are never used, and 3 MB a process."""
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # how the import system is told that there is none
    try:
        import structlog  # noqa: F401, PLC0415 - start-up of the command line
    finally:
        del sys.modules["rich"]


def _mend_streams() -> None:
    """Occupy closed standard descriptors, so that no connection gets their numbers, and never fail on a character."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _print_version() -> int:
    try:
        if sys.stdout is None:
            return 74
        sys.stdout.write(f"outrider {__version__}\n")
        sys.stdout.flush()
    except OSError:
        return 74
    return 0


def _say(text: str) -> None:
    try:
        if sys.stderr is not None:
            sys.stderr.write(" ".join(text.split()) + "\n")
    except OSError:
        return
