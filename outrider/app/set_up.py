"""The set-up of `outrider up` as the parent of the family sees it: done by a process of its own, which ends after it.

Owns the conversation and the parent's side of it. The child (`set_up_child.py`) reads the settings and says what the
parent must know of them; the parent makes sure of the embedded database and names it; the child migrates it and makes
sure of the key. So the parent never loads what that needs, and stays small for as long as the family lives. What is
wrong the child tells on stderr itself; the parent ends with its exit code.
"""

from __future__ import annotations

import signal
import subprocess
from typing import TypeVar

import msgspec

from outrider.app.nursery import this_python
from outrider.base.errors import Unavailable

CHILD = "outrider.app.set_up_child"
Message = TypeVar("Message", bound=msgspec.Struct)


class Known(msgspec.Struct, frozen=True):
    """What the parent must know of the settings. `key_source` names where the secret key is, never the key."""

    data_dir: str
    postgres_bin: str | None
    is_embedded: bool
    key_source: str
    grace_s: float
    log_format: str
    log_level: str
    app_label: str
    environment: str
    takes_submissions: bool
    takes_returns: bool


class Named(msgspec.Struct, frozen=True):
    """The database to set up; None: the one of the settings. It may hold a password: it goes through a pipe only."""

    url: str | None


class Done(msgspec.Struct, frozen=True):
    """What was done: revisions applied now, and whether nobody can sign in yet."""

    applied: list[str]
    is_new: bool


class SetUp:
    """The child. It ends when its stdin does, so that it never outlives the parent, however that went."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [*this_python(), "-m", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the parent
        )

    def known(self) -> Known | int:
        """What it says of the settings, or the exit code with which it refused them. Blocks."""
        return self._heard(Known)

    def done(self, url: str | None) -> Done | int:
        """Have a database set up; or the exit code with which that was refused. Blocks."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        try:
            self._process.stdin.write(msgspec.json.encode(Named(url)) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return self._exit_code()
        done = self._heard(Done)
        code = self._exit_code()
        return code or done

    def close(self) -> None:
        """Take its stdin away, which ends it, and wait until it has ended; idempotent."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()

    def _heard(self, kind: type[Message]) -> Message | int:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        line = self._process.stdout.readline()
        return msgspec.json.decode(line, type=kind) if line else self._exit_code()

    def _exit_code(self) -> int:
        """Its exit code; it has told why.

        Raises:  Unavailable(set_up_killed) when it could not.
        """
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            raise Unavailable("set_up_killed", f"setting up was ended by {name} before it was done; start again")
        return code
