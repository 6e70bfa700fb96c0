"""The process that sets up what `outrider up` runs on: says what is set, migrates the database it is told, ends.

Owns its own side of the conversation in `set_up.py`; fails as a command does, in one line on stderr and an exit code.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from importlib import import_module

import msgspec
from cyclopts import App

from outrider.app.set_up import Done, Known, Named
from outrider.base import settings as settings_file
from outrider.base.settings import Settings
from outrider.data import log, secret_file
from outrider.interfaces.cli import exits, shell

_APP = App(name="outrider")


@_APP.command(name="up")
def _up() -> int:
    settings = settings_file.load()
    log.configure(settings, "up")
    secret_file.make_private_folder(settings.data_dir)
    _say(_known(settings))
    # loaded now: meanwhile the parent starts the database
    preparation = import_module("outrider.app.preparation")
    line = sys.stdin.buffer.readline()
    if not line:
        return exits.OK  # the parent gave up, and tells why
    threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()
    _say(preparation.prepare(msgspec.json.decode(line, type=Named).url))
    return exits.OK


def _known(settings: Settings) -> Known:
    return Known(
        data_dir=str(settings.data_dir),
        postgres_bin=str(settings.postgres_bin) if settings.postgres_bin else None,
        is_embedded=settings.database_url is None,
        key_source="OUTRIDER_SECRET_KEY" if settings.secret_key else str(settings.key_path),
        grace_s=settings.grace_s,
        log_format=settings.log_format,
        log_level=settings.log_level,
        app_label=settings.app_label,
        environment=settings.environment,
        takes_submissions=settings.submission_port is not None,
        takes_returns=settings.returns_port is not None,
    )


def _say(message: Known | Done) -> None:
    with suppress(BrokenPipeError):  # the parent gave up: the end of stdin says so too
        sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
        sys.stdout.buffer.flush()


def _end_with_parent() -> None:
    """End when the parent is gone, as it would have ended itself: what was not committed is rolled back."""
    while os.read(0, 4096):
        pass
    os._exit(exits.TERMINATED)


def main() -> int:
    """Set up, and give the exit code; everything was told."""
    log.quiet()
    return shell.run(["up"], _APP, processes=frozenset({"up"}))


if __name__ == "__main__":
    sys.exit(main())
